"""ClientApps that workers of a pool can import by name."""

from __future__ import annotations

import os
import signal
import time
from typing import Any, cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

HOARD: list[Any] = []


def _number(context: Context) -> int:
    return int(context.node_config["partition-id"])


def _reply(message: Message, context: Context, values: np.ndarray[Any, Any], **metrics: float) -> Message:
    content: dict[str, ArrayRecord | MetricRecord | ConfigRecord] = {
        "arrays": ArrayRecord([values]),
        "metrics": MetricRecord({"num-examples": 1, "worker": os.getpid(), **metrics}),
        "hospital": ConfigRecord({"partition-id": _number(context)}),
    }
    return Message(RecordDict(content), reply_to=message)


def _received(message: Message) -> np.ndarray[Any, Any]:
    return cast(ArrayRecord, message.content["arrays"])["0"].numpy()


def adds_its_number() -> ClientApp:
    """Add the hospital's number to what it received."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return _reply(message, context, _received(message) + _number(context))

    return app


def ties_cycles() -> ClientApp:
    """Reach the arrays as Flower's documentation does, which ties them into a reference cycle."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return _reply(message, context, message.content.array_records["arrays"]["0"].numpy() + 1)

    return app


def counts_its_rounds() -> ClientApp:
    """Keep a counter in the context, as stateful ClientApps do."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        before = cast(int, context.state["rounds"]["n"]) if "rounds" in context.state else 0
        context.state["rounds"] = MetricRecord({"n": before + 1})
        return _reply(message, context, np.zeros(2, np.float32), rounds=before + 1)

    return app


def hoards() -> ClientApp:
    """Keep every array ever received, and say what the oldest one reads now."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        HOARD.append(_received(message))
        return _reply(message, context, HOARD[-1] + 1, oldest=float(HOARD[0][0]))

    return app


def sends_another_shape() -> ClientApp:
    """Answer with more numbers than were sent."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return _reply(message, context, np.arange(100_000, dtype=np.float64))

    return app


def troubled() -> ClientApp:
    """Die as hospital 1, raise as hospital 2, hang as hospital 3; the others answer a little later."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        number = _number(context)
        if number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 2:
            raise RuntimeError("no patient today")
        time.sleep(1000 if number == 3 else 0.05)
        return _reply(message, context, _received(message))

    return app

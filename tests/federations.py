"""Small federations and hand-made Flower messages for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedrobust.engines.local import LocalGrid
from fedrobust.learners.factory import build_learner
from fedrobust.learners.mutual import MutualLearner
from fedrobust.runtime.observers import Observer, RoundOutcome
from fedrobust.scenario import Scenario
from fedrobust.settings import Settings

#: What a fake hospital does with (arrays, hospital number): returns its arrays and metrics.
Behaviour = Callable[[dict[str, np.ndarray], int], tuple[dict[str, np.ndarray], dict[str, Any]]]


#: Every option of training that is off by default.
TRAINING_OPTIONS: dict[str, Any] = {
    "optimizer": "sgd(momentum=0.9)",
    "training_rule": "worker-momentum(beta=0.5)",
    "lr": 0.02,
    "proximal": 0.1,
    "server_optimizer": "adam",
    "attention": "cbam",
    "augment": "light",
    "adversarial_training": "pgd(eps=4, steps=1)",
    "prune": "weights(ratio=0.5, start=2)",
}


def tiny(out: Path, **changes: Any) -> Settings:
    """Return settings of a federation that runs in about a second."""
    quick = {
        "clients": 4,
        "rounds": 2,
        "local_epochs": 1,
        "networks": 1,
        "workers": 1,
        "data": "phantom(images=240, size=16)",
        "out": str(out),
    }
    return Settings(**{**quick, **changes})


class Unplugged(Exception):
    """Stands for a power cut."""


class Cut(Observer):
    """Pulls the plug after a round."""

    def __init__(self, number: int) -> None:
        """Keep the round's number."""
        self.number = number

    def round_done(self, outcome: RoundOutcome) -> None:
        """Raise, if it is the round."""
        if outcome.number == self.number:
            raise Unplugged


def threats_of(settings: Settings) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return each threat's attacks, as they are written, and its hospitals."""
    return tuple((threat.attacks.text, threat.hospitals) for threat in Scenario.of(settings).threats)


def learner_of(settings: Settings) -> MutualLearner:
    """Return the learner of a run."""
    scenario = Scenario.of(settings)
    return build_learner(scenario.learner, scenario.data)


def fake_app(behaviour: Behaviour, says: Callable[[int], dict[str, Any]] | None = None) -> ClientApp:
    """Return a ClientApp that answers training messages by `behaviour`."""
    app = ClientApp()

    def identity(context: Context) -> ConfigRecord:
        number = int(context.node_config["partition-id"])
        return ConfigRecord(says(number) if says else {"partition-id": number})

    @app.query()
    def who(message: Message, context: Context) -> Message:
        return Message(RecordDict({"hospital": identity(context)}), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        number = int(context.node_config["partition-id"])
        record = next(iter(message.content.array_records.values()))
        arrays, metrics = behaviour({name: array.numpy() for name, array in record.items()}, number)
        reply = RecordDict(
            {
                "arrays": ArrayRecord({name: Array(value) for name, value in arrays.items()}),
                "metrics": MetricRecord({"num-examples": 10, "loss": 1.0, **metrics}),
                "hospital": identity(context),
            }
        )
        return Message(reply, reply_to=message)

    return app


class Unordered(LocalGrid):
    """A grid with reversed nodes that answers in another order, as networks do."""

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes backwards."""
        return list(self._contexts)[::-1]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Answer backwards."""
        return list(super().send_and_receive(messages, timeout=timeout))[::-1]

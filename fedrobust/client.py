"""The ClientApp: Flower's messages in, a hospital's training, replies out."""

from __future__ import annotations

import functools
from typing import cast

from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedrobust.config import Settings, load_settings
from fedrobust.data.sources import prepare
from fedrobust.errors import UserError
from fedrobust.federation import Client
from fedrobust.learners.base import State
from fedrobust.parts import attackers, build_attacks, build_learner, pack, unpack
from fedrobust.plugins import find
from fedrobust.roster import SEAT

__all__ = ["make_client_app", "settings_from"]


@functools.lru_cache(maxsize=256)
def _hospital(settings: Settings, number: int) -> Client:
    """Return a hospital of a simulation; a process keeps it with its (poisoned) records."""
    data = prepare(settings)
    attacks = build_attacks(settings) if number in attackers(settings) else []
    kind = find("hospital", "clients", (Client,), "client")
    hospital = kind(number, data.of_hospital(number), build_learner(settings), attacks, settings.seed)
    return cast(Client, hospital)


def make_client_app(settings: Settings | None = None) -> ClientApp:
    """Return the ClientApp.

    Parameters
    ----------
    settings : Settings, optional
        Those of the run; without them each message's run config says them.
    """
    app = ClientApp()

    @app.query()
    def who(message: Message, context: Context) -> Message:
        """Say which hospital this node is."""
        return Message(RecordDict({"hospital": _identity(message, context)}), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        """Train the received model and send the update."""
        number = _number(message, context)
        config = next(r for name, r in message.content.config_records.items() if name != SEAT)
        state = unpack(next(iter(message.content.array_records.values())))
        update = _hospital(settings or settings_from(context), number).fit(
            state.parameters,
            state.buffers,
            int(cast(int, config["server-round"])),
            float(cast(float, config["lr"])),
        )
        metrics = {"num-examples": update.report.num_examples}
        reported = {key: list(v) if isinstance(v, tuple) else v for key, v in update.report.values.items()}
        reply = RecordDict(
            {
                "arrays": pack(State(update.parameters, update.buffers)),
                "metrics": MetricRecord({**metrics, **reported}),
                "hospital": _identity(message, context),
            }
        )
        return Message(reply, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        """Measure the received model on the hospital's own records, for strategies that ask."""
        chosen = settings or settings_from(context)
        records = prepare(chosen).of_hospital(_number(message, context))
        state = unpack(next(iter(message.content.array_records.values())))
        prediction = build_learner(chosen).predict(state, records.images, records.labels)
        right = float((prediction.probabilities.argmax(1) == records.labels).mean())
        metrics = MetricRecord({"num-examples": len(records), "loss": prediction.loss, "accuracy": right})
        return Message(
            RecordDict({"metrics": metrics, "hospital": _identity(message, context)}), reply_to=message
        )

    return app


def settings_from(context: Context) -> Settings:
    """Return the settings in Flower's run config."""
    return load_settings(_without_blanks(context), where="the run config")


def _without_blanks(context: Context) -> dict[str, object]:
    """Return the run config; Flower's has no null, so an empty string or 0 size stands for 'not given'."""
    optional = {
        key.replace("_", "-") for key, field in Settings.model_fields.items() if field.default is None
    }
    return {key: value for key, value in context.run_config.items() if not (key in optional and not value)}


def _number(message: Message, context: Context) -> int:
    """Return which hospital shall answer: the node's own, or in a shared simulation the one that the seat names."""
    seat = message.content.config_records.get(SEAT) if message.has_content() else None
    number = context.node_config.get("partition-id") if seat is None else seat["partition-id"]
    if number is None:
        raise UserError(
            'this node does not say which hospital it is; start it with --node-config "partition-id=0"'
        )
    return int(cast(int, number))


def _identity(message: Message, context: Context) -> ConfigRecord:
    record = ConfigRecord({"partition-id": _number(message, context)})
    if "num-partitions" in context.node_config:
        record["num-partitions"] = int(context.node_config["num-partitions"])
    return record

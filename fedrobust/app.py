"""Flower's ServerApp and ClientApp, the same two behind every engine and behind `flwr run`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from fedrobust.config import Settings, load_settings
from fedrobust.data.sources import prepare
from fedrobust.errors import UserError
from fedrobust.federation import Attack, Client
from fedrobust.learners.base import State
from fedrobust.plugins import find, instantiate, parse_call, split_chain
from fedrobust.roster import SEAT
from fedrobust.seeding import generator

if TYPE_CHECKING:
    from fedrobust.learners.mutual import MutualLearner

__all__ = [
    "attackers",
    "build_attacks",
    "build_learner",
    "client_app",
    "make_client_app",
    "pack",
    "server_app",
    "unpack",
]


#: The settings that a learner depends on, its data's among them.
_LEARNER_SETTINGS = (
    *("seed", "head", "networks", "backbone", "device", "batch_size", "local_epochs", "weight_decay"),
    *("dr_weight", "mutual_weight", "temperature", "data", "data_root", "download", "image_size"),
    *("split", "partition", "clients"),
)


def attackers(settings: Settings) -> tuple[int, ...]:
    """Return the numbers of the malicious hospitals, ascending; they follow from the seed."""
    drawn = generator(settings.seed, "malicious").permutation(settings.clients)[: settings.malicious]
    return tuple(sorted(int(number) for number in drawn))


def build_attacks(settings: Settings) -> list[Attack]:
    """Return fresh attacks in the order that `settings.attack` joins them with ``+``."""
    attacks = []
    for part in split_chain(settings.attack, "+"):
        name, options = parse_call(part)
        attacks.append(instantiate(find(name, "clients", (Attack,), "attack"), options, name))
    return attacks


def build_learner(settings: Settings) -> MutualLearner:
    """Return the learner for these settings and their data; a process keeps the last one."""
    return _learner(tuple((key, getattr(settings, key)) for key in _LEARNER_SETTINGS))


@functools.lru_cache(maxsize=1)
def _learner(relevant: tuple[tuple[str, object], ...]) -> MutualLearner:
    from fedrobust.learners.mutual import MutualLearner

    settings = Settings(**dict(relevant))
    records = prepare(settings).records
    height, width = records.images.shape[2:]
    return MutualLearner(settings, len(records.classes), records.images.shape[1], (height, width))


def pack(state: State) -> ArrayRecord:
    """Return a state as Flower arrays: one flat vector of parameters, one of running statistics where there are any."""
    arrays = {"parameters": Array(state.parameters)}
    if len(state.buffers):
        arrays["buffers"] = Array(state.buffers)
    return ArrayRecord(arrays)


def unpack(arrays: ArrayRecord) -> State:
    """Return what `pack` packed."""
    buffers = arrays["buffers"].numpy() if "buffers" in arrays else np.zeros(0, np.float32)
    return State(arrays["parameters"].numpy().astype(np.float32), buffers.astype(np.float32))


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
        update = _hospital(settings or _from(context), number).fit(
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
        chosen = settings or _from(context)
        records = prepare(chosen).of_hospital(_number(message, context))
        state = unpack(next(iter(message.content.array_records.values())))
        prediction = build_learner(chosen).predict(state, records.images, records.labels)
        right = float((prediction.probabilities.argmax(1) == records.labels).mean())
        metrics = MetricRecord({"num-examples": len(records), "loss": prediction.loss, "accuracy": right})
        return Message(
            RecordDict({"metrics": metrics, "hospital": _identity(message, context)}), reply_to=message
        )

    return app


def make_server_app(main: Callable[[Grid, Settings], None], settings: Settings | None = None) -> ServerApp:
    """Return the ServerApp that calls `main` with the grid and the run's settings."""
    app = ServerApp()

    @app.main()
    def start(grid: Grid, context: Context) -> None:
        """Read the settings and run."""
        main(grid, settings or _from(context))

    return app


def _serve(grid: Grid, settings: Settings) -> None:
    """Run the federation behind `flwr run` and say at the end what it found."""
    from fedrobust.runner import serve
    from fedrobust.terminal import Terminal

    terminal = Terminal(settings)
    terminal.finish(serve(grid, settings, terminal))


def _from(context: Context) -> Settings:
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


server_app = make_server_app(_serve)
client_app = make_client_app()

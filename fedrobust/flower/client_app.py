"""The ClientApp: Flower's messages in, a hospital's training, replies out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import numpy as np
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedrobust.audit.sanitize import Sanitize
from fedrobust.data.own import check_fit, own_data_spec, own_records
from fedrobust.data.records import Records
from fedrobust.data.sources import prepare
from fedrobust.data.spec import DataSpec
from fedrobust.errors import UserError
from fedrobust.federation import Client
from fedrobust.federation.memory import largest_memory
from fedrobust.flower.arrays import records_in
from fedrobust.flower.codec import (
    CLIENT_ASSIGNMENT,
    HOSPITAL,
    METRICS,
    NUM_EXAMPLES,
    PARTITION_ID,
    DataSpecRecord,
    HospitalRecord,
    TrainConfig,
    model_of,
    pack_reply,
)
from fedrobust.flower.memory import MemoryStore, NodeMemory, keep, recall
from fedrobust.learners.factory import build_learner, learner_of
from fedrobust.plugins import find
from fedrobust.scenario import Scenario

__all__ = ["forget_hospitals", "make_client_app"]


#: So many hospitals stay in a process: their records take memory, and to make one again takes milliseconds.
_HOSPITALS = 1024


@functools.lru_cache(maxsize=_HOSPITALS)
def _hospital(scenario: Scenario, number: int, own: DataSpec | None) -> Client:
    """Return a hospital; a process keeps it with its (poisoned) records."""
    records = _records(scenario.data, number, own)
    behaviours = scenario.attacks_of(number)
    if behaviours:
        # An attack may change images in place: in a copy, not where everybody reads them.
        records = records.take(np.arange(len(records)))
    if scenario.sanitize:
        behaviours.append(Sanitize(scenario.sanitize))
    kind = find("hospital", "clients", (Client,), "client")
    learner = learner_of(scenario.learner, own or scenario.data)
    hospital = kind(number, records, learner, behaviours, scenario.seed)
    return cast(Client, hospital)


def forget_hospitals() -> None:
    """Let go of the hospitals of earlier runs, which a process keeps with their records."""
    _hospital.cache_clear()


def _records(data: DataSpec, number: int, own: DataSpec | None) -> Records:
    """Return what a hospital trains on: data of its own, or its part of the simulated partition."""
    if own is None:
        return prepare(data).of_hospital(number)
    return own_records(data, own)


def make_client_app(
    scenario: Scenario | Callable[[Context], Scenario], memories: MemoryStore | None = None
) -> ClientApp:
    """Return the ClientApp.

    Parameters
    ----------
    scenario : Scenario or callable
        The run's, or how to make it of a message's context.
    memories : MemoryStore, optional
        Where the hospitals keep what they remember between rounds; the node's own state unless given.
    """
    app = ClientApp()

    def chosen(context: Context) -> Scenario:
        return scenario if isinstance(scenario, Scenario) else scenario(context)

    @app.query()
    def identify(message: Message, context: Context) -> Message:
        """Return which hospital this node is."""
        return Message(RecordDict({HOSPITAL: _identity(message, context).record()}), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        """Train the received model and send the update."""
        identity = _identity(message, context)
        run = chosen(context)
        own = _own(run.data, message, context)
        number = _number(message, context)
        hospital = _hospital(run, number, own)
        config, state = TrainConfig.of(message), model_of(message)
        # A hospital of the user's own that knows no proximal term works with all strategies without one.
        proximal = {"proximal_mu": config.proximal_mu} if config.proximal_mu else {}
        store = memories or NodeMemory(context.state, shared=_assigned(message) is not None)
        owner, limit = f"hospital-{number}", largest_memory(state.parameters.nbytes + state.buffers.nbytes)
        hospital.memory = recall(store, owner, config.round)
        update = hospital.fit(state.parameters, state.buffers, config.round, config.lr, **proximal)
        kept = keep(store, owner, config.round, hospital.memory, limit)
        # A process keeps its hospitals, and not what they remember.
        for memory in hospital.memory.values():
            memory.clear()
        no_effect = frozenset(getattr(hospital, "no_effect", ()))
        identity = replace(identity, no_effect=no_effect, memory_bytes=kept)
        return Message(pack_reply(update, identity), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        """Measure the received model on the hospital's own records, for strategies that ask."""
        run = chosen(context)
        own = _own(run.data, message, context)
        records = _records(run.data, _number(message, context), own)
        learner = build_learner(run.learner, own or run.data)
        prediction = learner.predict(model_of(message), records.images, records.labels)
        accuracy = float((prediction.probabilities.argmax(1) == records.labels).mean())
        metrics = MetricRecord({NUM_EXAMPLES: len(records), "loss": prediction.loss, "accuracy": accuracy})
        identity = _identity(message, context).record()
        return Message(RecordDict({METRICS: metrics, HOSPITAL: identity}), reply_to=message)

    return app


def _own(federation: DataSpec, message: Message, context: Context) -> DataSpec | None:
    """Return the data that the node config names as the hospital's own, or None."""
    data, root = context.node_config.get("data"), context.node_config.get("data-root")
    if not data:
        return None
    own = own_data_spec(federation, str(data), str(root) if root else None)
    spec = DataSpecRecord.of(message)
    if spec is None:
        shared = prepare(federation).records
        check_fit(own, shared.classes, shared.images.shape[1:])
    else:
        check_fit(own, spec.classes, spec.shape)
    return own


def _number(message: Message, context: Context) -> int:
    """Return the hospital that answers: the node's own, or the one that a shared node is asked for."""
    assignment = _assigned(message)
    number = context.node_config.get(PARTITION_ID) if assignment is None else assignment[PARTITION_ID]
    if number is None:
        raise UserError(
            'this node does not say which hospital it is; start it with --node-config "partition-id=0"'
        )
    return int(cast(int, number))


def _assigned(message: Message) -> ConfigRecord | None:
    """Return the record that says for which hospital a shared node answers; None for a node of its own."""
    config = records_in(message.content, ConfigRecord) if message.has_content() else {}
    return config.get(CLIENT_ASSIGNMENT)


def _identity(message: Message, context: Context) -> HospitalRecord:
    hospitals = context.node_config.get("num-partitions")
    return HospitalRecord(
        _number(message, context),
        None if hospitals is None else int(hospitals),
        # The server then knows nothing of this hospital's data.
        own_data=bool(context.node_config.get("data")),
    )

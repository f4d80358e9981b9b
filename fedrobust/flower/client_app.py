"""The ClientApp: Flower's messages in, a hospital's training, replies out."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import cast

import numpy as np
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedrobust.data.own import check_fit, own_records, own_settings
from fedrobust.data.records import Records
from fedrobust.data.sources import prepare
from fedrobust.errors import UserError
from fedrobust.federation import Client
from fedrobust.flower.arrays import records_in
from fedrobust.flower.codec import (
    CLIENT_ASSIGNMENT,
    HOSPITAL,
    METRICS,
    NUM_EXAMPLES,
    PARTITION_ID,
    DataSpec,
    HospitalRecord,
    TrainConfig,
    model_of,
    pack_reply,
)
from fedrobust.learners.factory import build_learner
from fedrobust.plugins import find
from fedrobust.scenario import build_attacks
from fedrobust.settings import Settings, load_settings

__all__ = ["make_client_app", "settings_from"]


@functools.lru_cache(maxsize=4096)
def _hospital(settings: Settings, number: int, own: Settings | None) -> Client:
    """Return a hospital; a process keeps it with its (poisoned) records."""
    records = _records(settings, number, own)
    attacks = build_attacks(settings, number)
    if attacks:
        # An attack may change images in place: in a copy, not where everybody reads them.
        records = records.take(np.arange(len(records)))
    kind = find("hospital", "clients", (Client,), "client")
    hospital = kind(number, records, build_learner(own or settings), attacks, settings.seed)
    return cast(Client, hospital)


def _records(settings: Settings, number: int, own: Settings | None) -> Records:
    """Return what a hospital trains on: data of its own, or its part of the simulated partition."""
    if own is None:
        return prepare(settings).of_hospital(number)
    return own_records(settings, own)


def make_client_app(settings: Settings | None = None) -> ClientApp:
    """Return the ClientApp.

    Parameters
    ----------
    settings : Settings, optional
        Those of the run; without them each message's run config says them.
    """
    app = ClientApp()

    @app.query()
    def identify(message: Message, context: Context) -> Message:
        """Return which hospital this node is."""
        return Message(RecordDict({HOSPITAL: _identity(message, context).record()}), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        """Train the received model and send the update."""
        identity = _identity(message, context)
        chosen = settings or settings_from(context)
        own = _own(chosen, message, context)
        hospital = _hospital(chosen, _number(message, context), own)
        config, state = TrainConfig.of(message), model_of(message)
        update = hospital.fit(state.parameters, state.buffers, config.round, config.lr)
        identity = replace(identity, no_effect=frozenset(getattr(hospital, "idle", ())))
        return Message(pack_reply(update, identity), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        """Measure the received model on the hospital's own records, for strategies that ask."""
        chosen = settings or settings_from(context)
        own = _own(chosen, message, context)
        records = _records(chosen, _number(message, context), own)
        prediction = build_learner(own or chosen).predict(model_of(message), records.images, records.labels)
        accuracy = float((prediction.probabilities.argmax(1) == records.labels).mean())
        metrics = MetricRecord({NUM_EXAMPLES: len(records), "loss": prediction.loss, "accuracy": accuracy})
        identity = _identity(message, context).record()
        return Message(RecordDict({METRICS: metrics, HOSPITAL: identity}), reply_to=message)

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


def _own(settings: Settings, message: Message, context: Context) -> Settings | None:
    """Return the settings of the data that the node config names as the hospital's own, or None."""
    data, root = context.node_config.get("data"), context.node_config.get("data-root")
    if not data:
        return None
    own = own_settings(settings, str(data), str(root) if root else None)
    spec = DataSpec.of(message)
    if spec is None:
        shared = prepare(settings).records
        check_fit(own, shared.classes, shared.images.shape[1:])
    else:
        check_fit(own, spec.classes, spec.shape)
    return own


def _number(message: Message, context: Context) -> int:
    """Return which hospital shall answer: the node's own, or the one that a shared node is asked to answer for."""
    config = records_in(message.content, ConfigRecord) if message.has_content() else {}
    assignment = config.get(CLIENT_ASSIGNMENT)
    number = context.node_config.get(PARTITION_ID) if assignment is None else assignment[PARTITION_ID]
    if number is None:
        raise UserError(
            'this node does not say which hospital it is; start it with --node-config "partition-id=0"'
        )
    return int(cast(int, number))


def _identity(message: Message, context: Context) -> HospitalRecord:
    hospitals = context.node_config.get("num-partitions")
    return HospitalRecord(
        _number(message, context),
        None if hospitals is None else int(hospitals),
        # The server then makes no guess at what this hospital holds.
        own_data=bool(context.node_config.get("data")),
    )

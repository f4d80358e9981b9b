"""The wire format: what the messages of a run hold. It is declared here and nowhere else.

==============  =====================  ==============================================================
message         record                 content
==============  =====================  ==============================================================
answer (query)  ``hospital``           `HospitalRecord`
train           ``arrays``             the global model, see `pack`
train           ``config``             `TrainConfig`: the round, the learning rate, what the strategy adds
any             ``client-assignment``  partition-id: the hospital for which a shared node answers
any             ``data-spec``          `DataSpecRecord`: classes and image shape, in a deployment
train reply     ``arrays``             the trained model, see `pack`
train reply     ``metrics``            num-examples, and what the hospital reports, see `write_metrics`
train reply     ``hospital``           `HospitalRecord`
==============  =====================  ==============================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from numpy.typing import NDArray

from fedrobust.federation.updates import ClientMetrics, Update, Vector
from fedrobust.flower.arrays import LazyArray, record_of, records_in
from fedrobust.learners.base import State

__all__ = [
    "CLIENT_ASSIGNMENT",
    "DATA_SPEC",
    "NUM_EXAMPLES",
    "PARTITION_ID",
    "SERVER_ROUND",
    "DataSpecRecord",
    "HospitalRecord",
    "TrainConfig",
    "hospital_record",
    "model_of",
    "pack",
    "pack_reply",
    "pack_update",
    "read_metrics",
    "unpack",
    "with_record",
    "write_metrics",
]

ARRAYS, METRICS, CONFIG, HOSPITAL = "arrays", "metrics", "config", "hospital"
#: The record that tells a node shared by several hospitals for which one to answer.
CLIENT_ASSIGNMENT = "client-assignment"
#: The record that describes the federation's data.
DATA_SPEC = "data-spec"

NUM_EXAMPLES, PARTITION_ID, SERVER_ROUND = "num-examples", "partition-id", "server-round"
_NUM_PARTITIONS, _OWN_DATA, _NO_EFFECT = "num-partitions", "own-data", "no-effect"
_MEMORY = "memory-bytes"
_LR, PROXIMAL_MU = "lr", "proximal-mu"


@dataclass(frozen=True)
class HospitalRecord:
    """What a node says of its hospital, beside metrics.

    Attributes
    ----------
    number : int or None
        Its partition id; None where the node does not say it, or says something else than a number.
    hospitals : int or None
        How many partitions the node knows of.
    own_data : bool
        It trains on data of its own, which the server does not know.
    no_effect : frozenset of str
        The attacks that had no effect in this round: for the run's notes, never for a defence.
    memory_bytes : int
        What the hospital keeps until its next round, likewise.
    """

    number: int | None = None
    hospitals: int | None = None
    own_data: bool = False
    no_effect: frozenset[str] = frozenset()
    memory_bytes: int = 0

    @classmethod
    def read(cls, record: ConfigRecord) -> HospitalRecord:
        """Return what a record says."""
        named = record.get(_NO_EFFECT)
        return cls(
            _integer(record.get(PARTITION_ID)),
            _integer(record.get(_NUM_PARTITIONS)),
            bool(record.get(_OWN_DATA)),
            frozenset(str(name) for name in named) if isinstance(named, list) else frozenset(),
            max(0, _integer(record.get(_MEMORY)) or 0),
        )

    def record(self) -> ConfigRecord:
        """Return the record to send."""
        made = ConfigRecord({} if self.number is None else {PARTITION_ID: self.number})
        if self.hospitals is not None:
            made[_NUM_PARTITIONS] = self.hospitals
        if self.own_data:
            made[_OWN_DATA] = True
        if self.no_effect:
            made[_NO_EFFECT] = sorted(self.no_effect)
        if self.memory_bytes:
            made[_MEMORY] = self.memory_bytes
        return made


def hospital_record(message: Message) -> HospitalRecord:
    """Return what a reply says of its hospital; nothing where it has no such record."""
    return HospitalRecord.read(records_in(message.content, ConfigRecord).get(HOSPITAL, ConfigRecord()))


@dataclass(frozen=True)
class DataSpecRecord:
    """The federation's data, for hospitals that bring their own.

    Attributes
    ----------
    classes : tuple of str
    shape : tuple of int
        Channels, height and width of an image.
    """

    classes: tuple[str, ...]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, message: Message) -> DataSpecRecord | None:
        """Return that of a message, or None."""
        record = records_in(message.content, ConfigRecord).get(DATA_SPEC)
        if record is None:
            return None
        return cls(tuple(cast(list[str], record["classes"])), tuple(cast(list[int], record["shape"])))

    def record(self) -> ConfigRecord:
        """Return the record to send."""
        return ConfigRecord({"classes": list(self.classes), "shape": list(self.shape)})


@dataclass(frozen=True)
class TrainConfig:
    """The configuration of a round's training.

    Attributes
    ----------
    round : int
        Counted from 1.
    lr : float
        Learning rate.
    proximal_mu : float
        Weight of FedProx's proximal term; 0 for none.
    """

    round: int
    lr: float
    proximal_mu: float = 0.0

    @classmethod
    def of(cls, message: Message) -> TrainConfig:
        """Return that of a training message of one of our own runs."""
        config = next(iter(_configs(message)))
        return cls(
            int(cast(int, config[SERVER_ROUND])),
            float(cast(float, config[_LR])),
            float(cast(float, config.get(PROXIMAL_MU, 0.0))),
        )

    @staticmethod
    def unread(message: Message) -> frozenset[str]:
        """Return the keys that a strategy added to a training message and that no hospital reads."""
        return frozenset().union(*_configs(message)) - {SERVER_ROUND, _LR, PROXIMAL_MU}

    @staticmethod
    def round_of(message: Message) -> int | None:
        """Return the round of any app's training message, where Flower's FedAvg puts it; else None."""
        for config in records_in(message.content, ConfigRecord).values():
            if SERVER_ROUND in config:
                return int(cast(int, config[SERVER_ROUND]))
        return None


def _configs(message: Message) -> list[ConfigRecord]:
    """Return the records of configuration that a strategy made, without those that grids add."""
    found = records_in(message.content, ConfigRecord)
    return [record for name, record in found.items() if name not in (CLIENT_ASSIGNMENT, DATA_SPEC)]


def read_metrics(metrics: MetricRecord, key: str = NUM_EXAMPLES) -> ClientMetrics:
    """Return a record of metrics: the number of images stands under the key, all else are reported values."""
    values: dict[str, float | tuple[float, ...]] = {
        name: tuple(float(v) for v in value) if isinstance(value, list) else float(value)
        for name, value in metrics.items()
        if name != key
    }
    examples: Any = metrics.get(key, 0)
    # Some apps use a share as the weight, which is not an integer.
    return ClientMetrics(examples if examples % 1 else int(examples), values)


def write_metrics(metrics: ClientMetrics) -> MetricRecord:
    """Return the record to send; the inverse of `read_metrics`."""
    values = {key: list(v) if isinstance(v, tuple) else v for key, v in metrics.values.items()}
    return MetricRecord({NUM_EXAMPLES: metrics.num_examples, **values})


def pack(state: State) -> ArrayRecord:
    """Return a state as Flower arrays: flat parameters, and flat running statistics where there are any."""
    arrays = {"parameters": LazyArray(state.parameters)}
    if len(state.buffers):
        arrays["buffers"] = LazyArray(state.buffers)
    return record_of(arrays)


def unpack(arrays: ArrayRecord) -> State:
    """Return what `pack` packed, as read-only views: the values may be the server's own."""
    buffers = arrays["buffers"].numpy() if "buffers" in arrays else np.zeros(0, np.float32)
    return State(_read_only(arrays["parameters"].numpy()), _read_only(buffers))


def model_of(message: Message) -> State:
    """Return the model that a message to a hospital carries."""
    return unpack(next(iter(records_in(message.content, ArrayRecord).values())))


def pack_update(update: Update) -> ArrayRecord:
    """Return an update's arrays; whatever array an attack made of them, Flower's records hold NumPy's."""
    return pack(State(*(np.asarray(v, np.float32) for v in (update.parameters, update.buffers))))


def pack_reply(update: Update, hospital: HospitalRecord) -> RecordDict:
    """Return the content of a hospital's reply to a training message."""
    return RecordDict(
        {ARRAYS: pack_update(update), METRICS: write_metrics(update.report), HOSPITAL: hospital.record()}
    )


def with_record(content: RecordDict, name: str, record: ConfigRecord) -> RecordDict:
    """Return a content with one more record; the given one stays as it is."""
    return RecordDict({**content, name: record})


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _read_only(values: NDArray[np.generic]) -> Vector:
    view: Vector = values.astype(np.float32, copy=False).view()
    view.flags.writeable = False
    return view

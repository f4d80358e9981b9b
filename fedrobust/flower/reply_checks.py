"""The one validator of replies: of our own runs, of other people's apps, and of colluding attacks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord
from numpy.typing import NDArray

from fedrobust.errors import UserError
from fedrobust.federation.updates import Vector
from fedrobust.flower.arrays import records_in
from fedrobust.flower.codec import NUM_EXAMPLES, HospitalRecord, hospital_record
from fedrobust.flower.vectors import SentModel, is_float, shapes_of

__all__ = [
    "ABSURD",
    "ClientFailure",
    "Expected",
    "Reply",
    "ReplyFault",
    "brief",
    "check_reply",
    "last_line",
    "senders",
    "unusual_schemas",
]

#: An update this many times as long as the global model is no training step; in float32 it drowns all others.
ABSURD = 1e6

_EMPTY = np.zeros(0, np.float32)


@dataclass(frozen=True)
class ClientFailure:
    """A client whose update of a round is discarded.

    Attributes
    ----------
    client : int
        The hospital's number; in other apps Flower's id of the node.
    reason : str
        Why, in a few words.
    """

    client: int
    reason: str


@dataclass(frozen=True)
class ReplyFault:
    """Why a reply cannot be used, in a few words."""

    reason: str


@dataclass(frozen=True)
class Expected:
    """What a reply must hold.

    Attributes
    ----------
    model : SentModel or None
        A model with the names and shapes of this one; None for an evaluation, which returns no arrays.
    key : str
        Under which the metrics hold the number of images.
    bounded : bool
        Refuse an update more than `ABSURD` times as long as the model.
    """

    model: SentModel | None
    key: str = NUM_EXAMPLES
    bounded: bool = True

    @cached_property
    def limits(self) -> tuple[float, float]:
        """Return the lengths that parameters and running statistics must not exceed."""
        if self.model is None or not self.bounded:
            return math.inf, math.inf
        parameters, buffers = _length(self.model.parameters), _length(self.model.buffers)
        return ABSURD * max(1.0, parameters), ABSURD * max(1.0, buffers)


@dataclass(frozen=True)
class Reply:
    """A reply that can be used.

    Attributes
    ----------
    message : Message
    metrics : MetricRecord
        The only one; what it holds is reported and not verified.
    hospital : HospitalRecord
    parameters, buffers : ndarray of float32
        Read-only; empty for an evaluation.
    """

    message: Message
    metrics: MetricRecord
    hospital: HospitalRecord
    parameters: Vector = field(default_factory=lambda: _EMPTY)
    buffers: Vector = field(default_factory=lambda: _EMPTY)


def check_reply(message: Message, expected: Expected) -> Reply | ReplyFault:
    """Return a reply with its update as vectors, or why it cannot be used.

    Integer and float arrays of any width are converted to float32 here, and only here, before their length is
    taken.
    """
    if message.has_error():
        return ReplyFault(last_line(message.error.reason or f"error code {message.error.code}"))
    arrays = list(records_in(message.content, ArrayRecord).values())
    metrics = list(records_in(message.content, MetricRecord).values())
    model = expected.model
    if (model is not None and len(arrays) != 1) or len(metrics) != 1:
        return ReplyFault(f"must send exactly {'one ArrayRecord and ' if model else ''}one MetricRecord")
    examples = metrics[0].get(expected.key)
    if not isinstance(examples, int | float) or not 0 < examples < 1e12:
        return ReplyFault(f"{expected.key} is {examples}, not a positive number")
    if model is None:
        return Reply(message, metrics[0], hospital_record(message))
    fault = _arrays_fault(arrays[0], model)
    if fault is not None:
        return ReplyFault(fault)
    # What float64 holds and float32 does not becomes infinite.
    with np.errstate(over="ignore"):
        parameters, buffers = model.vectors(arrays[0])
    for vector, limit in zip((parameters, buffers), expected.limits, strict=True):
        fault = _length_fault(vector, limit)
        if fault is not None:
            return ReplyFault(_not_finite(arrays[0]) or fault)
    return Reply(message, metrics[0], hospital_record(message), parameters, buffers)


def _arrays_fault(arrays: ArrayRecord, model: SentModel) -> str | None:
    """Return the fault in names, shapes or types, or None."""
    shapes = shapes_of(arrays)
    if shapes != model.shapes:
        return f"wrong names or shapes: {brief(shapes)} instead of {brief(model.shapes)}"
    faults = (_array_fault(name, arrays[name], like) for name, like in model.arrays.items())
    return next((fault for fault in faults if fault), None)


def _array_fault(name: str, array: Array, like: Array) -> str | None:
    try:
        values = array.numpy()
    except Exception as error:  # noqa: BLE001 - the bytes are whatever the sender wrote
        return f"'{name}' cannot be read: {last_line(str(error))}"
    if not isinstance(values, np.ndarray):
        return f"'{name}' holds {type(values).__name__}, no array"
    if values.shape != tuple(array.shape):
        return f"'{name}' says shape {tuple(array.shape)}, but holds {values.shape}"
    # Counters and masks are not aggregated by our own rules: any type will do that the model has there.
    if values.dtype.kind not in "iuf" and (is_float(like.dtype) or values.dtype != like.numpy().dtype):
        return f"'{name}' holds {values.dtype}, not numbers"
    return None


def _length_fault(values: Vector, limit: float) -> str | None:
    size = _length(values)
    if size <= limit and (size < math.inf or np.isfinite(values).all()):
        return None
    return f"absurdly large: length {size:.3g}, a million times the global model's and more"


def _not_finite(arrays: ArrayRecord) -> str | None:
    for name, array in arrays.items():
        values = array.numpy()
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            return f"'{name}' holds NaN or infinite values"
    return None


def _length(values: NDArray[np.float32]) -> float:
    """Return the L2 length in one pass; infinite also where float32 overflows, NaN with a NaN inside."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.sqrt(np.dot(values, values)))


def senders(asked: Mapping[int, Message]) -> Callable[[Message], int]:
    """Return a function from a reply to the number of its sender.

    Parameters
    ----------
    asked : mapping of int to Message
        The messages that were sent, by the number of the client that each is for.
    """
    # The grid has given the messages their ids; without ids, each node has got one message at most.
    by_message = {m.metadata.message_id: number for number, m in asked.items() if m.metadata.message_id}
    by_node = {m.metadata.dst_node_id: number for number, m in asked.items()}

    def sender(reply: Message) -> int:
        # The SuperLink itself answers for a node that is gone.
        about, node = reply.metadata.reply_to_message_id, reply.metadata.src_node_id
        return by_message[about] if about in by_message else by_node.get(node, node)

    return sender


def unusual_schemas(messages: Sequence[Message]) -> set[int]:
    """Return the positions of the messages with metrics of other names or lengths than most have.

    Flower's strategies discard all replies of a round because of one such reply.
    """
    schemas = [_schema(message) for message in messages]
    usual = _most_common(schemas)
    return {place for place, schema in enumerate(schemas) if schema != usual}


def _schema(message: Message) -> frozenset[tuple[str, int | None]] | None:
    """Return the names and lengths of a reply's metrics; None where there is not one record of them."""
    records = [] if message.has_error() else list(records_in(message.content, MetricRecord).values())
    if len(records) != 1:
        return None
    return frozenset((name, len(v) if isinstance(v, list) else None) for name, v in records[0].items())


def _most_common(
    schemas: Iterable[frozenset[tuple[str, int | None]] | None],
) -> frozenset[tuple[str, int | None]] | None:
    counted = Counter(schema for schema in schemas if schema is not None)
    return counted.most_common(1)[0][0] if counted else None


def brief(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return the first shapes by name, for a message."""
    return "{" + ", ".join(f"{name}: {shape}" for name, shape in sorted(shapes.items())[:4]) + "}"


def last_line(text: str) -> str:
    """Return the last line that is not blank: the error that ends a traceback; a `UserError` bare."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    last = lines[-1] if lines else "unknown error"
    return last.removeprefix(f"{UserError.__module__}.{UserError.__name__}: ")

"""The validator of one reply: of our own runs, of other people's apps, and of colluding attacks.

What a reply holds is judged here by itself, and beside the round's other replies in `round_checks`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord
from numpy.typing import NDArray

from fedrobust.errors import UserError
from fedrobust.federation.updates import Vector
from fedrobust.flower.arrays import LazyArray, records_in
from fedrobust.flower.codec import NUM_EXAMPLES, HospitalRecord, hospital_record
from fedrobust.flower.vectors import SentModel, is_float, shapes_of

__all__ = [
    "ClientFailure",
    "Expected",
    "Reply",
    "ReplyFault",
    "Schema",
    "brief",
    "check_reply",
    "last_line",
    "schema_of",
]

#: The names of a reply's metrics, each with its number of values; None for a single number.
Schema = frozenset[tuple[str, int | None]]

#: Characters of a reason that are kept: an error text may be as long as a hospital likes.
_REASON = 400
#: Room for the note that says how long a text was.
_LENGTH_SAID = 40

#: Bytes that the widest number of a reply may take: a complex one of long doubles.
_WIDEST = 32

#: Bytes of an array's head in NumPy's format, at most.
_HEAD = 1 << 14

#: Values that a reply's metrics may hold in all; a run's own learner reports some for each class.
_METRIC_VALUES = 100_000

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
    metrics : Schema, optional
        The names and lengths of the metrics that the server knows its hospitals to report; without it those
        that most of the round's replies have are the usual ones.
    finite : bool
        Single numbers among the metrics must be finite.
    raised : str, optional
        The metric that the strategy raises to a power, which gives a negative one no value.
    """

    model: SentModel | None
    key: str = NUM_EXAMPLES
    metrics: Schema | None = None
    finite: bool = False
    raised: str | None = None


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
    fault = _metrics_fault(metrics[0], expected) or (model and _arrays_fault(arrays[0], model))
    if fault:
        return ReplyFault(fault)
    if model is None:
        return Reply(message, metrics[0], hospital_record(message))
    # What float64 holds and float32 does not becomes infinite.
    with np.errstate(over="ignore"):
        parameters, buffers = model.vectors(arrays[0])
    for vector in (parameters, buffers):
        if not _finite(vector):
            return ReplyFault(_not_finite(arrays[0]) or "absurdly large: it holds what float32 cannot")
    return Reply(message, metrics[0], hospital_record(message), parameters, buffers)


def _metrics_fault(metrics: MetricRecord, expected: Expected) -> str | None:
    """Return the fault in the number of images or in what else is reported, or None."""
    examples = metrics.get(expected.key)
    if not isinstance(examples, int | float) or not 0 < examples < 1e12:
        return f"{expected.key} is {_short(examples)}, not a positive number"
    if expected.metrics is not None and schema_of(metrics) != expected.metrics:
        return f"its metrics are not those of a hospital here: {_difference(metrics, expected.metrics)}"
    count = sum(len(value) if isinstance(value, list) else 1 for value in metrics.values())
    if count > _METRIC_VALUES:
        return f"reports {count} metrics; at most {_METRIC_VALUES} are taken"
    for name, value in metrics.items():
        for number in value if isinstance(value, list) else (value,):
            # More than an integer of the wire format holds, and perhaps more than a float can.
            if isinstance(number, int) and number.bit_length() > 64:
                return f"metric {_short(name)} is an integer of {number.bit_length()} bits"
        if expected.finite and isinstance(value, float) and not math.isfinite(value):
            return f"metric {_short(name)} is {value}, which the strategy would spread to all"
        if name == expected.raised and isinstance(value, int | float) and value < 0:
            return f"metric {_short(name)} is {value}, which the strategy cannot raise to a power"
    return None


def _difference(metrics: MetricRecord, usual: Schema) -> str:
    """Return in what the metrics differ from the usual ones, in a few words."""
    given = dict(schema_of(metrics))
    known = dict(usual)
    if more := sorted(set(given) - set(known)):
        return f"{_short(more[0])} is unknown"
    if less := sorted(set(known) - set(given)):
        return f"{less[0]} is missing"
    name = min(name for name in known if known[name] != given[name])
    one, other = ("one number" if n is None else f"{n} numbers" for n in (given[name], known[name]))
    return f"{name} holds {one} instead of {other}"


def schema_of(metrics: MetricRecord) -> Schema:
    """Return the names and lengths of a record's metrics."""
    return frozenset((name, len(v) if isinstance(v, list) else None) for name, v in metrics.items())


def _arrays_fault(arrays: ArrayRecord, model: SentModel) -> str | None:
    """Return the fault in names, shapes or types, or None."""
    shapes = shapes_of(arrays)
    if shapes != model.shapes:
        return f"wrong names or shapes: {brief(shapes)} instead of {brief(model.shapes)}"
    faults = (_array_fault(name, arrays[name], like) for name, like in model.arrays.items())
    return next((fault for fault in faults if fault), None)


def _array_fault(name: str, array: Array, like: Array) -> str | None:
    # A LazyArray holds its numbers already, and would make its bytes now.
    if not isinstance(array, LazyArray):
        count, size = math.prod(like.shape), len(array.data)
        if size > count * _WIDEST + _HEAD:
            return f"'{name}' takes {size} bytes for {count} numbers"
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


def _not_finite(arrays: ArrayRecord) -> str | None:
    for name, array in arrays.items():
        values = array.numpy()
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            return f"'{name}' holds NaN or infinite values"
    return None


def _finite(values: NDArray[np.float32]) -> bool:
    """Tell whether all values are finite, mostly in one pass without another array."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.dot(values, values)) or np.isfinite(values).all())


def brief(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return the first shapes by name, for a message."""
    return _short("{" + ", ".join(f"{name}: {shape}" for name, shape in sorted(shapes.items())[:4]) + "}")


def last_line(text: str) -> str:
    """Return the last line that is not blank: the error that ends a traceback; a `UserError` bare.

    A long one is cut, with its length said.
    """
    lines = text.strip().splitlines()
    last = lines[-1].strip() if lines else "unknown error"
    return _short(last.removeprefix(f"{UserError.__module__}.{UserError.__name__}: "))


def _short(value: object) -> str:
    """Return a value as text, cut where it is long, with its length said."""
    try:
        text = str(value)
    except ValueError:
        # Python writes no integer of more than some thousand digits.
        return "a number too long to be written"
    # What the hospital has cut, with the length of the whole, is not cut again.
    if len(text) <= _REASON + _LENGTH_SAID:
        return text
    return f"{text[:_REASON]} ... ({len(text):,} characters)"

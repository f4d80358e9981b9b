"""What can be wrong with a reply, whoever's app sent it: the checks that our own runs and other people's apps share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord
from numpy.typing import NDArray

from fedrobust.flower.arrays import records_in

__all__ = [
    "ABSURD",
    "as_error",
    "brief",
    "hospital_record",
    "last_line",
    "length",
    "metric_names",
    "report_fault",
    "senders",
    "shapes_of",
    "usual",
    "values_fault",
]

#: An update this many times as long as the global model is no training step; in float32 it drowns all others.
ABSURD = 1e6


def senders(asked: Mapping[int, Message]) -> Callable[[Message], int]:
    """Return what tells whose reply one is, given the messages that were sent, by the number of whom they are for."""
    # The grid has given the messages their ids; without ids, each node has got one message at most.
    by_message = {m.metadata.message_id: number for number, m in asked.items() if m.metadata.message_id}
    by_node = {m.metadata.dst_node_id: number for number, m in asked.items()}

    def sender(reply: Message) -> int:
        # The SuperLink itself answers for a node that is gone.
        about, node = reply.metadata.reply_to_message_id, reply.metadata.src_node_id
        return by_message[about] if about in by_message else by_node.get(node, node)

    return sender


def hospital_record(reply: Message) -> ConfigRecord:
    """Return what a reply of our own ClientApp says of its hospital beside metrics; empty where it says nothing."""
    return records_in(reply.content, ConfigRecord).get("hospital", ConfigRecord())


def as_error(reply: Message, code: int, reason: str) -> Message:
    """Return an error in a reply's place, from the same sender to the same question."""
    return cast(Message, cast(Any, Message)(error=Error(code, reason), metadata=reply.metadata))


def report_fault(reply: Message, key: str = "num-examples", *, arrays: bool = True) -> str | None:
    """Return what is wrong with a reply's records, or None: it needs one of metrics, with a number of images in it.

    Parameters
    ----------
    reply : Message
        One with content.
    key : str
        Under which the metrics say the number of images.
    arrays : bool
        It needs one record of arrays as well.
    """
    metrics = list(records_in(reply.content, MetricRecord).values())
    if arrays and len(records_in(reply.content, ArrayRecord)) != 1 or len(metrics) != 1:
        return f"must send exactly {'one ArrayRecord and ' if arrays else ''}one MetricRecord"
    examples = metrics[0].get(key)
    if not isinstance(examples, int | float) or not 0 < examples < 1e12:
        return f"{key} is {examples}, not a positive number"
    return None


def metric_names(reply: Message) -> frozenset[Any] | None:
    """Return the names and lengths of a reply's metrics; None where there is not one record of them."""
    records = [] if reply.has_error() else list(records_in(reply.content, MetricRecord).values())
    if len(records) != 1:
        return None
    record = records[0]
    return frozenset((name, len(v) if isinstance(v, list) else None) for name, v in record.items())


def usual(names: Iterable[frozenset[Any] | None]) -> frozenset[Any] | None:
    """Return what most replies' `metric_names` are."""
    counted = Counter(one for one in names if one is not None)
    return counted.most_common(1)[0][0] if counted else None


def shapes_of(arrays: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    """Return each array's shape."""
    return {name: tuple(array.shape) for name, array in arrays.items()}


def values_fault(name: str, array: Array, bound: float) -> str | None:
    """Return what is wrong with an array's numbers, or None; they may be as long as the bound."""
    try:
        values = array.numpy()
    except Exception as error:  # noqa: BLE001 - the bytes are whatever the sender wrote
        return f"'{name}' cannot be read: {last_line(str(error))}"
    if not isinstance(values, np.ndarray):
        return f"'{name}' holds {type(values).__name__}, no array"
    if values.shape != tuple(array.shape):
        return f"'{name}' says shape {tuple(array.shape)}, but holds {values.shape}"
    if values.dtype.kind not in "iuf":
        return f"'{name}' holds {values.dtype}, not numbers"
    size = length(values)
    if not np.isfinite(size) and not np.isfinite(values).all():
        return f"'{name}' holds NaN or infinite values"
    if size > bound:
        return f"'{name}' is absurdly large: length {size:.3g}, a million times the global model's and more"
    return None


def length(values: NDArray[Any]) -> float:
    """Return the L2 length in one pass; infinite also where float32 overflows, NaN with a NaN inside."""
    flat = values.reshape(-1)
    if flat.dtype == np.float16:
        # Its squares overflow at 256.
        flat = flat.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.sqrt(np.dot(flat, flat)))


def brief(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return the first shapes by name, for a message."""
    return "{" + ", ".join(f"{name}: {shape}" for name, shape in sorted(shapes.items())[:4]) + "}"


def last_line(text: str) -> str:
    """Return the last line with anything in it: what a traceback says."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "unknown error"

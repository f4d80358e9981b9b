"""A round's replies, judged together: who sent which, and which cannot be aggregated beside the others."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from flwr.app import Message

from fedrobust.federation.updates import Vector
from fedrobust.flower.compat import SUPERLINK_NODE_ID
from fedrobust.flower.reply_checks import (
    ClientFailure,
    Expected,
    Reply,
    ReplyFault,
    Schema,
    check_reply,
    schema_of,
)
from fedrobust.flower.vectors import SentModel

__all__ = ["ABSURD", "CheckedRound", "check_round", "senders", "unusual_lengths", "unusual_schemas"]

#: An update this many times as long as the others' median is no training step. Attacks that boost an update
#: stay below.
ABSURD = 1e3

#: An update is never absurd while it is at most this many times as long as the model: others may send nearly
#: nothing.
_MODELS = 10.0

#: Columns of a vector at a time: two rows of float32 stay within a core's cache.
_COLUMNS = 1 << 16


@dataclass
class CheckedRound:
    """What a round's replies come to.

    Attributes
    ----------
    usable : dict of int to Reply
        By the sender's number.
    failures : list of ClientFailure
        Those without a usable reply, with the reason, by number.
    first : dict of int to Message
        The first reply of each, which alone counts.
    repeated : list of int
        Those who sent more than one.
    """

    usable: dict[int, Reply] = field(default_factory=dict)
    failures: list[ClientFailure] = field(default_factory=list)
    first: dict[int, Message] = field(default_factory=dict)
    repeated: list[int] = field(default_factory=list)


def check_round(replies: Iterable[Message], asked: Mapping[int, Message], expected: Expected) -> CheckedRound:
    """Return the replies that can be used, at most one of each client, and why the others cannot.

    A client is known by who sent the reply, never by its place or by what the reply says. An answer to
    something that was not asked in this round is ignored.

    Parameters
    ----------
    replies : iterable of Message
        In any order.
    asked : mapping of int to Message
        What was sent, by the number of the client that each is for.
    expected : Expected
    """
    sender = senders(asked)
    checked = CheckedRound()
    reasons: dict[int, str] = dict.fromkeys(asked, "no reply in time")
    for message in replies:
        number = sender(message)
        if number is None:
            continue
        if number in checked.first:
            if number not in checked.repeated:
                checked.repeated.append(number)
            continue
        checked.first[number] = message
        reply = check_reply(message, expected)
        if isinstance(reply, ReplyFault):
            reasons[number] = reply.reason
        else:
            checked.usable[number] = reply
    _judge(checked.usable, expected, reasons)
    failed = sorted(set(asked) - set(checked.usable))
    checked.failures = [ClientFailure(number, reasons[number]) for number in failed]
    return checked


def _judge(usable: dict[int, Reply], expected: Expected, reasons: dict[int, str]) -> None:
    """Take out the replies that are unlike the others; say why."""
    numbers = sorted(usable)
    if expected.metrics is None:
        for place in unusual_schemas([schema_of(usable[number].metrics) for number in numbers]):
            reasons[numbers[place]] = "its metrics have other names or lengths than most nodes'"
            del usable[numbers[place]]
    if expected.model is None:
        return
    numbers = sorted(usable)
    for place, words in unusual_lengths([usable[number] for number in numbers], expected.model).items():
        reasons[numbers[place]] = words
        del usable[numbers[place]]


def senders(asked: Mapping[int, Message]) -> Callable[[Message], int | None]:
    """Return a function from a reply to the number of its sender; None if it answers nothing asked here.

    Parameters
    ----------
    asked : mapping of int to Message
        The messages that were sent, by the number of the client that each is for.
    """
    # The grid has given the messages their ids; without ids, each node has got one message at most.
    by_message = {m.metadata.message_id: number for number, m in asked.items() if m.metadata.message_id}
    by_node: dict[int, list[int]] = defaultdict(list)
    for number, message in asked.items():
        by_node[message.metadata.dst_node_id].append(number)

    def sender(reply: Message) -> int | None:
        node, numbers = reply.metadata.src_node_id, by_node.get(reply.metadata.src_node_id)
        answered = by_message.get(reply.metadata.reply_to_message_id)
        if reply.has_error() and node == SUPERLINK_NODE_ID and answered is not None:
            # For a node that is gone; nobody else speaks for another.
            return answered
        if numbers is None:
            return None
        if by_message and answered is None:
            # An answer to an earlier message.
            return None
        return numbers[0] if len(numbers) == 1 else answered

    return sender


def unusual_schemas(schemas: Sequence[Schema]) -> set[int]:
    """Return the places of those that are unlike most.

    Flower's strategies discard all replies of a round because of one such reply.
    """
    counted = Counter(schemas)
    usual = counted.most_common(1)[0][0] if counted else None
    return {place for place, schema in enumerate(schemas) if schema != usual}


def unusual_lengths(replies: Sequence[Reply], model: SentModel) -> dict[int, str]:
    """Return why updates are absurdly long, by their places.

    An update, or the change of the running statistics that comes with it, may be `ABSURD` times as long as
    the median of the others' that moved at all; if all others stood still, as many times as long as the
    model. So a minority cannot make room for absurd updates, nor make the others' absurd.
    """
    found: dict[int, str] = {}
    for vectors, before in (
        ([reply.parameters for reply in replies], model.parameters),
        ([reply.buffers for reply in replies], model.buffers),
    ):
        size = max(1.0, _length(before))
        lengths = [_length(vector, before) for vector in vectors]
        moved = sorted(length for length in lengths if length > 0)
        for place, length in enumerate(lengths):
            others = _median_of_others(moved, length)
            limit = ABSURD * size if others is None else max(ABSURD * others, _MODELS * size)
            if not length <= limit or math.isinf(length):
                found.setdefault(
                    place,
                    f"absurdly large: a change of length {length:.3g}, where the model's is {size:.3g} and "
                    f"the others' median {others or 0.0:.3g}",
                )
    return found


def _median_of_others(moved: Sequence[float], length: float) -> float | None:
    """Return the lower median of sorted lengths without one of these; None if no other is left."""
    own = bisect_left(moved, length) if length > 0 else len(moved)
    others = len(moved) - (length > 0)
    if not others:
        return None
    place = (others - 1) // 2
    return moved[place + (place >= own)]


def _length(values: Vector, start: Vector | None = None) -> float:
    """Return the L2 length of a vector, or of its difference from another; infinite where float32 is."""
    total = 0.0
    with np.errstate(over="ignore"):
        for at in range(0, len(values), _COLUMNS):
            part = values[at : at + _COLUMNS]
            moved = part if start is None else part - start[at : at + _COLUMNS]
            total += float(np.dot(moved, moved))
    return math.sqrt(total)

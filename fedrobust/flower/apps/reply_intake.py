"""Where an app's replies arrive: each node gets a number that stays, faulty replies are named and taken out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from logging import WARNING

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.supercore import log

from fedrobust.federation.updates import Vector
from fedrobust.flower.arrays import records_in
from fedrobust.flower.codec import flat, is_float
from fedrobust.flower.grid import WrappedGrid
from fedrobust.flower.reply_checks import (
    ABSURD,
    brief,
    last_line,
    length,
    metric_names,
    report_fault,
    senders,
    shapes_of,
    usual,
    values_fault,
)

__all__ = ["Loss", "NodeRegistry", "Reply", "ReplyCollector", "SortedGrid"]


@dataclass(frozen=True)
class Loss:
    """A node's lost round: Flower's id of the node, and why in a few words."""

    node: int
    reason: str


@dataclass(frozen=True)
class Reply:
    """A reply that can be used, with its node's number; the vectors are empty for an evaluation."""

    number: int
    message: Message
    parameters: Vector
    buffers: Vector


class NodeRegistry:
    """A number for each node, the same in every round: the partition id that it says, else its id in Flower.

    Flower's ids are random, partition ids are not; but a partition id is only said. So a number belongs to the node
    that had it first, and of several nodes that say a new one at the same time nobody gets it.
    """

    def __init__(self) -> None:
        """Know nobody."""
        self.known: dict[int, int] = {}

    def assign(self, said: Mapping[int, int | None]) -> None:
        """Give new nodes a number, given the partition ids that they say."""
        new = sorted(node for node in said if node not in self.known)
        claims = Counter(said[node] for node in new)
        taken = set(self.known.values())
        for node in new:
            claim = said[node]
            if claim is not None and claims[claim] == 1 and claim not in taken:
                self.known[node] = claim
        for node in new:
            taken = set(self.known.values())
            self.known.setdefault(node, node if node not in taken else max(taken) + 1)

    def place(self, node: int) -> tuple[bool, int]:
        """Return what to sort nodes by: those with a number by it, the others behind them by their id."""
        return node not in self.known, self.known.get(node, node)


class SortedGrid(WrappedGrid):
    """A grid whose nodes come in the order of their numbers, those without one behind them."""

    def __init__(self, grid: Grid, numbers: NodeRegistry) -> None:
        """Wrap the grid."""
        super().__init__(grid)
        self._place = numbers.place

    def get_node_ids(self) -> Iterable[int]:
        """Return the inner grid's nodes, sorted."""
        return sorted(self.inner.get_node_ids(), key=self._place)


class ReplyCollector:
    """Checks and orders a round's replies; what is wrong with one costs its node the round and nobody else.

    Parameters
    ----------
    key : str
        Under which metrics say the number of images.

    Attributes
    ----------
    numbers : NodeRegistry
    losses : list of Loss
        The nodes that lost the last exchange, by error, by a faulty reply or by none.
    """

    def __init__(self, key: str) -> None:
        """Have asked nobody."""
        self._key = key
        self._asked: Sequence[Message] = ()
        self._base = ArrayRecord()
        self.numbers = NodeRegistry()
        self.losses: list[Loss] = []

    def ask(self, messages: Iterable[Message], base: ArrayRecord) -> list[Message]:
        """Return the messages; remember whom they go to and which model they carry."""
        self._asked, self._base = list(messages), base
        return list(self._asked)

    def take(self, replies: Iterable[Message], what: str, *, arrays: bool = True) -> list[Reply]:
        """Return the replies that can be used, by number, one of each node at most; log a warning for each other.

        Parameters
        ----------
        replies : iterable of Message
        what : str
            What the nodes lose, such as ``"round 3"``.
        arrays : bool
            They must bring a model like the one that was sent.
        """
        sender = senders({message.metadata.dst_node_id: message for message in self._asked})
        given = sorted(((sender(reply), reply) for reply in replies), key=lambda pair: pair[0])
        asked = {message.metadata.dst_node_id for message in self._asked}
        self._asked = ()
        vectors = _Model(self._base) if arrays else None
        self.losses = [Loss(node, "no reply in time") for node in sorted(asked - {node for node, _ in given})]
        found: dict[int, tuple[Message, Vector, Vector]] = {}
        for node, reply in given:
            if node in found:
                log(WARNING, "fedrobust: %s replies twice in %s; one reply counts", self.name(node), what)
                continue
            fault = self._fault(reply, arrays)
            read = vectors.read(reply) if vectors and fault is None else fault or _NOTHING
            if isinstance(read, str):
                self.losses.append(Loss(node, read))
            else:
                found[node] = (reply, *read)
        self.losses = [loss for loss in self.losses if loss.node not in found]
        most = usual(metric_names(reply) for reply, _, _ in found.values())
        for node in [node for node, (reply, _, _) in found.items() if metric_names(reply) != most]:
            self.losses.append(Loss(node, "its metrics have other names or lengths than most nodes'"))
            del found[node]
        if arrays:
            # Only a reply to training says who the node is.
            self.numbers.assign({node: _said(reply) for node, (reply, _, _) in found.items()})
        for loss in self.losses:
            log(WARNING, "fedrobust: %s loses %s: %s", self.name(loss.node), what, loss.reason)
        order = sorted(found, key=self.numbers.place)
        return [Reply(self.numbers.known.get(node, node), *found[node]) for node in order]

    def name(self, node: int) -> str:
        """Return what to call a node: its id in Flower and, if it has another, its number."""
        number = self.numbers.known.get(node, node)
        return f"node {node}" if number == node else f"node {node} (number {number})"

    def _fault(self, reply: Message, arrays: bool) -> str | None:
        if reply.has_error():
            return last_line(reply.error.reason or f"error code {reply.error.code}")
        return report_fault(reply, self._key, arrays=arrays)


class _Model:
    """The model that was sent, as a measure of those that come back."""

    def __init__(self, base: ArrayRecord) -> None:
        self._base = base
        self._shapes = shapes_of(base)
        self._bounds = [ABSURD * max(1.0, length(flat(base, buffers=buffers))) for buffers in (False, True)]

    def read(self, reply: Message) -> tuple[Vector, Vector] | str:
        """Return a reply's parameters and running statistics, or what is wrong with its arrays."""
        arrays = next(iter(records_in(reply.content, ArrayRecord).values()))
        shapes = shapes_of(arrays)
        if shapes != self._shapes:
            return f"wrong names or shapes: {brief(shapes)} instead of {brief(self._shapes)}"
        for name, array in self._base.items():
            # Counters stay the server's own.
            fault = values_fault(name, arrays[name], float("inf")) if is_float(array.dtype) else None
            if fault:
                return fault
        # What float64 holds and float32 does not becomes infinite.
        with np.errstate(over="ignore"):
            parameters, buffers = (flat(arrays, buffers=kind, like=self._base) for kind in (False, True))
        for vector, bound in zip((parameters, buffers), self._bounds, strict=True):
            size = length(vector)
            if not size <= bound:
                return f"absurdly large: length {size:.3g}, a million times the global model's and more"
        return parameters, buffers


_NOTHING = (flat({}, buffers=False), flat({}, buffers=True))


def _said(reply: Message) -> int | None:
    """Return the partition id that a reply says, in whichever record of settings or metrics."""
    for record in reply.content.values():
        if isinstance(record, ConfigRecord | MetricRecord):
            said = record.get("partition-id")
            if isinstance(said, int) and not isinstance(said, bool) and said >= 0:
                return said
    return None

"""The intake of an app's replies: each node keeps one number, faulty replies are named and removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from logging import WARNING

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.supercore import log

from fedrobust.flower.codec import PARTITION_ID
from fedrobust.flower.grid import WrappedGrid
from fedrobust.flower.reply_checks import ClientFailure, Expected, Reply
from fedrobust.flower.round_checks import check_round
from fedrobust.flower.vectors import SentModel

__all__ = ["NodeRegistry", "NumberedReply", "ReplyCollector", "SortedGrid"]


@dataclass(frozen=True)
class NumberedReply:
    """A reply that can be used, with its node's number."""

    number: int
    reply: Reply

    @property
    def message(self) -> Message:
        """Return the message itself."""
        return self.reply.message


class NodeRegistry:
    """A number for each node, the same in every round: its reported partition id, else its id in Flower.

    Flower's ids are random, partition ids are not; but a partition id is not verified. So a number belongs to
    the node that had it first, and if several nodes report the same new one at the same time, none of them
    gets it.
    """

    def __init__(self) -> None:
        """Begin without any node."""
        self.known: dict[int, int] = {}

    def assign(self, reported: Mapping[int, int | None]) -> None:
        """Give new nodes a number, given the partition ids that they report."""
        new = sorted(node for node in reported if node not in self.known)
        counted = Counter(reported[node] for node in new)
        taken = set(self.known.values())
        for node in new:
            number = reported[node]
            if number is not None and counted[number] == 1 and number not in taken:
                self.known[node] = number
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
    """Checks and orders a round's replies; a fault in one discards that node's update and no other.

    Parameters
    ----------
    key : str
        Under which metrics hold the number of images.

    Attributes
    ----------
    numbers : NodeRegistry
    failures : list of ClientFailure
        The nodes that failed in the last exchange: by an error, a faulty reply or none.
    """

    def __init__(self, key: str) -> None:
        """Begin without any message."""
        self._key = key
        self._asked: Sequence[Message] = ()
        self._base = ArrayRecord()
        self.numbers = NodeRegistry()
        self.failures: list[ClientFailure] = []

    def ask(self, messages: Iterable[Message], base: ArrayRecord) -> list[Message]:
        """Return the messages; remember their nodes and the model that they carry."""
        self._asked, self._base = list(messages), base
        return list(self._asked)

    def take(self, replies: Iterable[Message], what: str, *, arrays: bool = True) -> list[NumberedReply]:
        """Return the usable replies by number, at most one of each node; log a warning for each other.

        Parameters
        ----------
        replies : iterable of Message
        what : str
            What the nodes fail in, such as ``"round 3"``.
        arrays : bool
            They must bring a model like the one that was sent.
        """
        expected = Expected(SentModel(self._base) if arrays else None, self._key)
        checked = check_round(
            replies, {message.metadata.dst_node_id: message for message in self._asked}, expected
        )
        self._asked = ()
        found, self.failures = checked.usable, checked.failures
        for node in checked.repeated:
            log(WARNING, "fedrobust: %s replies twice in %s; one reply counts", self.name(node), what)
        if arrays:
            # Only a reply to training holds the node's number.
            self.numbers.assign({node: _reported_number(reply.message) for node, reply in found.items()})
        for failure in self.failures:
            log(
                WARNING,
                "fedrobust: %s failed in %s: %s",
                self.name(failure.client),
                what,
                failure.reason,
            )
        order = sorted(found, key=self.numbers.place)
        return [NumberedReply(self.numbers.known.get(node, node), found[node]) for node in order]

    def name(self, node: int) -> str:
        """Return what to call a node: its id in Flower and, if it has another, its number."""
        number = self.numbers.known.get(node, node)
        return f"node {node}" if number == node else f"node {node} (number {number})"


def _reported_number(message: Message) -> int | None:
    """Return the partition id that a reply holds, in whichever record of settings or metrics."""
    for record in message.content.values():
        if isinstance(record, ConfigRecord | MetricRecord):
            number = record.get(PARTITION_ID)
            if isinstance(number, int) and not isinstance(number, bool) and number >= 0:
                return number
    return None

"""A thin Grid around any Grid: hospitals in a fixed order, faulty replies taken out and named.

Flower's node ids are random and replies come in the order of arrival. Sums of floats depend on their order, so every
strategy, ours or anybody's, sees the replies sorted by hospital here. The same place checks that a reply can be
aggregated at all: a hospital that crashes, sends NaN, a wrong shape or absurd numbers loses its round, not the run.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from fedrobust.errors import UserError
from fedrobust.flower.arrays import records_in
from fedrobust.flower.grid import WrappedGrid
from fedrobust.flower.reply_checks import (
    ABSURD,
    as_error,
    brief,
    hospital_record,
    last_line,
    length,
    metric_names,
    report_fault,
    senders,
    shapes_of,
    usual,
    values_fault,
)

__all__ = ["CLIENT_ASSIGNMENT", "ClientGrid", "Fault"]

#: The record that tells a node shared by several hospitals whom it plays.
CLIENT_ASSIGNMENT = "seat"

_ERROR_FAULTY_REPLY = 1000


@dataclass(frozen=True)
class Fault:
    """A hospital's lost round: which hospital, and why in a few words."""

    hospital: int
    reason: str


class ClientGrid(WrappedGrid):
    """Orders another Grid's nodes and replies by hospital, and turns faulty replies into errors.

    Strategies see hospital h as node h + 1, whatever id the wrapped grid gave its node. In Flower's simulation, where
    nodes are alike, hospitals share the nodes if there are fewer of them; a real node is one hospital.

    Parameters
    ----------
    grid : Grid
        Flower's, or any other.
    hospitals : int
        How many hospitals take part; nodes beyond them stay idle.
    wait_s : float
        How long to wait for so many nodes to appear.

    Attributes
    ----------
    faults : list of Fault
        Those of the last exchange.
    """

    def __init__(self, grid: Grid, hospitals: int, wait_s: float = 60) -> None:
        """Wrap the grid; `discover` asks the nodes who they are."""
        super().__init__(grid)
        self._hospitals = hospitals
        self._wait_s = wait_s
        self._claims: dict[int, ConfigRecord] = {}
        self._node_of: dict[int, int] = {}
        self._shared = False
        self._shapes: dict[str, tuple[int, ...]] = {}
        self.faults: list[Fault] = []
        self.idle: dict[int, frozenset[str]] = {}

    def discover(self) -> None:
        """Ask every node which hospital it is.

        Raises
        ------
        UserError
            If two nodes claim one hospital, or a hospital does not appear in time.
        """
        deadline = time.monotonic() + self._wait_s
        while True:
            self._ask([node for node in self.inner.get_node_ids() if node not in self._claims])
            claimed = [(_number(record), node) for node, record in self._claims.items()]
            numbers = sorted(number for number, _ in claimed if number < self._hospitals)
            twice = sorted({number for number in numbers if numbers.count(number) > 1})
            if twice:
                raise UserError(
                    f"two nodes claim to be hospital {twice[0]}; give each node a partition-id of its own"
                )
            missing = sorted(set(range(self._hospitals)) - set(numbers))
            self._node_of = dict(claimed)
            if not missing:
                return
            if self._shared_simulation():
                nodes = [node for _, node in sorted(claimed)]
                self._node_of = {number: nodes[number % len(nodes)] for number in range(self._hospitals)}
                self._shared = True
                return
            if time.monotonic() > deadline:
                raise UserError(
                    f"{len(numbers)} of {self._hospitals} hospitals are connected, hospital {missing[0]} is not; "
                    f"start more nodes or run with --clients {max(1, len(numbers))}"
                )
            time.sleep(0.2)

    @property
    def own_data(self) -> frozenset[int]:
        """Return the hospitals whose nodes say that they have data of their own, which the server does not know."""
        said = (record for record in self._claims.values() if record.get("own-data"))
        return frozenset(_number(record) for record in said)

    def _ask(self, nodes: Sequence[int]) -> None:
        questions = [Message(RecordDict(), dst_node_id=n, message_type=MessageType.QUERY) for n in nodes]
        for answer in self.inner.send_and_receive(questions, timeout=self._wait_s):
            node = answer.metadata.src_node_id
            if answer.has_error():
                raise UserError(f"node {node} does not start: {last_line(answer.error.reason or '')}")
            self._claims[node] = hospital_record(answer)

    def _shared_simulation(self) -> bool:
        """Tell whether all nodes of a simulation are there, fewer than the hospitals."""
        from flwr.superlink.grid import InMemoryGrid

        if not isinstance(self.innermost, InMemoryGrid) or not self._claims:
            return False
        promised = next(iter(self._claims.values())).get("num-partitions")
        return promised == len(self._claims)

    def get_node_ids(self) -> Iterable[int]:
        """Return a node id for each hospital, in the hospitals' order."""
        return [number + 1 for number in range(self._hospitals)]

    def set_expected_shapes(self, arrays: ArrayRecord) -> None:
        """Hold replies to the names and shapes of these arrays."""
        self._shapes = shapes_of(arrays)

    def check_model(self, arrays: ArrayRecord) -> None:
        """Raise `ValueError` if these cannot be the next global model."""
        shapes = shapes_of(arrays)
        if shapes != self._shapes:
            raise ValueError(f"the new global model is {brief(shapes)} instead of {brief(self._shapes)}")
        if not all(np.isfinite(array.numpy()).all() for array in arrays.values()):
            raise ValueError("the new global model holds NaN or infinite values")

    @staticmethod
    def hospital_of(message: Message) -> int:
        """Return the number of the hospital that sent a reply of `send_and_receive`."""
        return message.metadata.src_node_id - 1

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Exchange messages; return the replies ordered by hospital, the faulty ones as errors."""
        asked = list(messages)
        base = next((record for m in asked for record in records_in(m.content, ArrayRecord).values()), None)
        bounds = {name: ABSURD * max(1.0, length(array.numpy())) for name, array in (base or {}).items()}
        sent = {message.metadata.dst_node_id - 1: self._addressed(message) for message in asked}
        replies = list(self.inner.send_and_receive(list(sent.values()), timeout=timeout))
        sender = senders(sent)
        for reply in replies:
            reply.metadata.__dict__["_src_node_id"] = sender(reply) + 1
        self.idle = {
            self.hospital_of(reply): _idle(reply)
            for reply in replies
            if not reply.has_error() and reply.metadata.message_type == MessageType.TRAIN
        }
        self.faults = []
        replies.sort(key=self.hospital_of)
        metrics = [metric_names(reply) for reply in replies]
        most = usual(metrics)
        checked = [
            self._checked(reply, bounds, names != most) for reply, names in zip(replies, metrics, strict=True)
        ]
        silent = sorted(set(sent) - {self.hospital_of(reply) for reply in replies})
        self.faults += [Fault(number, "no reply in time") for number in silent]
        return checked

    def _addressed(self, message: Message) -> Message:
        """Return a message to the node that plays its hospital; a copy where it goes by another number."""
        number = message.metadata.dst_node_id - 1
        node = self._node_of[number]
        content = message.content
        if node == message.metadata.dst_node_id and not self._shared:
            return message
        if self._shared:
            content = RecordDict({**content, CLIENT_ASSIGNMENT: ConfigRecord({"partition-id": number})})
        data = message.metadata
        return Message(content, node, data.message_type, ttl=data.ttl, group_id=data.group_id)

    def _checked(self, reply: Message, bounds: Mapping[str, float], alien: bool) -> Message:
        """Return a reply, or an error in its place; keep the fault."""
        fault = self._fault(reply, bounds)
        # Flower's strategies give the whole round up over one report of other names or lengths.
        if fault is None and alien:
            fault = "its metrics have other names or lengths than most hospitals'"
        if fault is None:
            return reply
        self.faults.append(Fault(self.hospital_of(reply), fault))
        return reply if reply.has_error() else as_error(reply, _ERROR_FAULTY_REPLY, fault)

    def _fault(self, reply: Message, bounds: Mapping[str, float]) -> str | None:
        """Return what is wrong with a reply, or None."""
        if reply.has_error():
            return last_line(reply.error.reason or f"error code {reply.error.code}")
        if reply.metadata.message_type != MessageType.TRAIN:
            return None
        claimed = hospital_record(reply).get("partition-id", self.hospital_of(reply))
        if claimed != self.hospital_of(reply):
            return f"claims to be hospital {claimed!r}"
        fault = report_fault(reply)
        return fault or self._array_fault(next(iter(records_in(reply.content, ArrayRecord).values())), bounds)

    def _array_fault(self, arrays: ArrayRecord, bounds: Mapping[str, float]) -> str | None:
        shapes = shapes_of(arrays)
        if shapes != self._shapes:
            return f"wrong shape: {brief(shapes)} instead of {brief(self._shapes)}"
        faults = (values_fault(name, a, bounds.get(name, ABSURD)) for name, a in arrays.items())
        return next((fault for fault in faults if fault), None)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Push messages as the wrapped grid does; their replies are neither ordered nor checked."""
        return self.inner.push_messages([self._addressed(message) for message in messages])


def _number(record: ConfigRecord) -> int:
    return int(cast(int, record["partition-id"]))


def _idle(message: Message) -> frozenset[str]:
    """Return the names of the attacks that a hospital says changed nothing."""
    said = hospital_record(message).get("idle")
    return frozenset(str(name) for name in said) if isinstance(said, list) else frozenset()

"""A thin Grid around any Grid: hospitals in a fixed order, faulty replies taken out and named.

Flower's node ids are random and replies come in the order of arrival. Sums of floats depend on their order,
so every strategy, built-in or not, sees the replies sorted by hospital here. The same place checks that a
reply can be aggregated at all: if a hospital crashes or sends NaN, a wrong shape or absurd numbers, its
update is discarded and the run continues.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Sequence

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from fedrobust.errors import UserError
from fedrobust.flower.arrays import records_in
from fedrobust.flower.codec import (
    CLIENT_ASSIGNMENT,
    PARTITION_ID,
    HospitalRecord,
    TrainConfig,
    hospital_record,
    with_record,
)
from fedrobust.flower.compat import error_reply, is_simulation, set_sender
from fedrobust.flower.grid import WrappedGrid
from fedrobust.flower.reply_checks import (
    ClientFailure,
    Expected,
    Reply,
    ReplyFault,
    brief,
    check_reply,
    last_line,
    senders,
    unusual_schemas,
)
from fedrobust.flower.vectors import SentModel, shapes_of

__all__ = ["ClientGrid"]

_ERROR_FAULTY_REPLY = 1000


class ClientGrid(WrappedGrid):
    """Orders another Grid's nodes and replies by hospital, and turns faulty replies into errors.

    Strategies see hospital h as node h + 1, whatever id the wrapped grid has for its node. In Flower's
    simulation, where nodes are alike, hospitals share the nodes if there are fewer of them; a real node is
    one hospital.

    Parameters
    ----------
    grid : Grid
        Flower's, or any other.
    hospitals : int
        How many hospitals take part; further nodes get no messages.
    wait_s : float
        How long to wait for so many nodes to appear.

    Attributes
    ----------
    faults : list of ClientFailure
        Those of the last exchange.
    no_effect : dict of int to frozenset of str
        By hospital, the attacks that had no effect in the last round.
    """

    def __init__(self, grid: Grid, hospitals: int, wait_s: float = 60) -> None:
        """Wrap the grid; `discover` asks the nodes which hospitals they are."""
        super().__init__(grid)
        self._hospitals = hospitals
        self._wait_s = wait_s
        self._answers: dict[int, HospitalRecord] = {}
        self._node_of: dict[int, int] = {}
        self._shared = False
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._unread: set[str] = set()
        self.faults: list[ClientFailure] = []
        self.no_effect: dict[int, frozenset[str]] = {}

    def discover(self) -> None:
        """Ask every node which hospital it is.

        Raises
        ------
        UserError
            If two nodes have one number, or a hospital does not appear in time.
        """
        deadline = time.monotonic() + self._wait_s
        while True:
            self._ask([node for node in self.inner.get_node_ids() if node not in self._answers])
            answered = sorted((_number(node, record), node) for node, record in self._answers.items())
            numbers = [number for number, _ in answered if number < self._hospitals]
            twice = sorted({number for number in numbers if numbers.count(number) > 1})
            if twice:
                raise UserError(
                    f"two nodes claim to be hospital {twice[0]}; give each node a partition-id of its own"
                )
            missing = sorted(set(range(self._hospitals)) - set(numbers))
            self._node_of = dict(answered)
            if not missing:
                return
            if self._is_shared_simulation():
                nodes = [node for _, node in answered]
                self._node_of = {number: nodes[number % len(nodes)] for number in range(self._hospitals)}
                self._shared = True
                return
            if time.monotonic() > deadline:
                raise UserError(
                    f"{len(numbers)} of {self._hospitals} hospitals are connected, hospital {missing[0]} is "
                    f"not; start more nodes or run with --clients {max(1, len(numbers))}"
                )
            time.sleep(0.2)

    @property
    def own_data(self) -> frozenset[int]:
        """Return the hospitals with data of their own, which the server does not know."""
        return frozenset(_number(node, record) for node, record in self._answers.items() if record.own_data)

    def _ask(self, nodes: Sequence[int]) -> None:
        questions = [Message(RecordDict(), dst_node_id=n, message_type=MessageType.QUERY) for n in nodes]
        for answer in self.inner.send_and_receive(questions, timeout=self._wait_s):
            node = answer.metadata.src_node_id
            if answer.has_error():
                raise UserError(f"node {node} does not start: {last_line(answer.error.reason or '')}")
            self._answers[node] = hospital_record(answer)

    def _is_shared_simulation(self) -> bool:
        """Tell whether all nodes of a simulation are there, fewer than the hospitals."""
        if not is_simulation(self.innermost) or not self._answers:
            return False
        return next(iter(self._answers.values())).hospitals == len(self._answers)

    def get_node_ids(self) -> Iterable[int]:
        """Return a node id for each hospital, in the hospitals' order."""
        return [number + 1 for number in range(self._hospitals)]

    def set_expected_shapes(self, arrays: ArrayRecord) -> None:
        """Require the names and shapes of these arrays of every new global model."""
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
        self._note_unread(asked)
        models = (record for m in asked for record in records_in(m.content, ArrayRecord).values())
        expected = Expected(SentModel(next(models, ArrayRecord())))
        sent = {message.metadata.dst_node_id - 1: self._addressed(message) for message in asked}
        if len(sent) < len(asked):
            raise UserError(
                "the strategy sends a hospital several messages at once; send one, as only one is answered"
            )
        replies = list(self.inner.send_and_receive(list(sent.values()), timeout=timeout))
        sender = senders(sent)
        for reply in replies:
            set_sender(reply, sender(reply) + 1)
        replies.sort(key=self.hospital_of)
        unusual = unusual_schemas(replies)
        self.faults, self.no_effect = [], {}
        checked = [self._checked(reply, expected, place in unusual) for place, reply in enumerate(replies)]
        silent = sorted(set(sent) - {self.hospital_of(reply) for reply in replies})
        self.faults += [ClientFailure(number, "no reply in time") for number in silent]
        return checked

    def _note_unread(self, messages: Iterable[Message]) -> None:
        """Say once of each key that a strategy adds to the train config whether hospitals read it."""
        training = [m for m in messages if m.metadata.message_type == MessageType.TRAIN]
        for key in sorted(frozenset().union(*map(TrainConfig.unread, training)) - self._unread):
            self._unread.add(key)
            warnings.warn(
                f"the strategy sends '{key}' to the hospitals, but no hospital reads it; the run is as if it "
                f"were not there",
                UserWarning,
                stacklevel=2,
            )

    def _addressed(self, message: Message) -> Message:
        """Return a message to the node that answers for its hospital; a copy where it has another number."""
        number = message.metadata.dst_node_id - 1
        node = self._node_of[number]
        content = message.content
        if node == message.metadata.dst_node_id and not self._shared:
            return message
        if self._shared:
            content = with_record(content, CLIENT_ASSIGNMENT, ConfigRecord({PARTITION_ID: number}))
        data = message.metadata
        return Message(content, node, data.message_type, ttl=data.ttl, group_id=data.group_id)

    def _checked(self, reply: Message, expected: Expected, unusual_schema: bool) -> Message:
        """Return a reply, or an error in its place; keep the fault."""
        number = self.hospital_of(reply)
        if not reply.has_error() and reply.metadata.message_type == MessageType.TRAIN:
            self.no_effect[number] = hospital_record(reply).no_effect
        fault = self._fault(reply, number, expected)
        if fault is None and unusual_schema:
            fault = "its metrics have other names or lengths than most hospitals'"
        if fault is None:
            return reply
        self.faults.append(ClientFailure(number, fault))
        return reply if reply.has_error() else error_reply(reply, _ERROR_FAULTY_REPLY, fault)

    def _fault(self, reply: Message, number: int, expected: Expected) -> str | None:
        """Return why a reply cannot be used, or None."""
        if reply.has_error() or reply.metadata.message_type == MessageType.TRAIN:
            checked = check_reply(reply, expected)
            if isinstance(checked, ReplyFault):
                return checked.reason
            return _number_fault(checked, number)
        return None

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Push messages as the wrapped grid does; their replies are neither ordered nor checked."""
        return self.inner.push_messages([self._addressed(message) for message in messages])


def _number_fault(reply: Reply, number: int) -> str | None:
    reported = reply.hospital.number
    return None if reported in (None, number) else f"claims to be hospital {reported}"


def _number(node: int, record: HospitalRecord) -> int:
    if record.number is None:
        raise UserError(
            f'node {node} does not say which hospital it is; start it with --node-config "partition-id=0"'
        )
    return record.number

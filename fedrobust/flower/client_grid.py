"""A thin Grid around any Grid: hospitals in a fixed order, faulty replies taken out and named.

Flower's node ids are random and replies come in the order of arrival. Sums of floats depend on their order,
so every strategy, built-in or not, sees the replies sorted by hospital here. The same place checks that a
reply can be aggregated at all: if a hospital crashes or sends NaN, a wrong shape or absurd numbers, its
update is discarded and the run continues.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterable, Sequence

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from fedrobust.errors import UserError
from fedrobust.federation.participation import TakingPart
from fedrobust.flower.arrays import records_in
from fedrobust.flower.codec import (
    CLIENT_ASSIGNMENT,
    PARTITION_ID,
    HospitalRecord,
    TrainConfig,
    hospital_record,
    with_record,
)
from fedrobust.flower.compat import error_reply, is_simulation, is_superlink, set_sender
from fedrobust.flower.grid import WrappedGrid
from fedrobust.flower.reply_checks import ClientFailure, Expected, Reply, Schema, brief, last_line
from fedrobust.flower.round_checks import check_round
from fedrobust.flower.vectors import SentModel, is_float, shapes_of, to_arrays

__all__ = ["ClientGrid"]

_ERROR_FAULTY_REPLY = 1000
_TWICE = "replied twice; the first reply counts"


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
    memory_bytes : int
        What the hospitals of the last exchange keep until their next round, by their own account.
    """

    def __init__(self, grid: Grid, hospitals: int, wait_s: float = 60) -> None:
        """Wrap the grid; `discover` asks the nodes which hospitals they are."""
        super().__init__(grid)
        self._hospitals = hospitals
        self._wait_s = wait_s
        self._answers: dict[int, HospitalRecord] = {}
        self._left_out: dict[int, str] = {}
        self._node_of: dict[int, int] = {}
        self._shared = False
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._metrics: Schema | None = None
        self._finite = False
        self._raised: str | None = None
        self._unread: set[str] = set()
        self._taking_part: TakingPart | None = None
        self.faults: list[ClientFailure] = []
        self.no_effect: dict[int, frozenset[str]] = {}
        self.memory_bytes = 0

    def discover(self) -> None:
        """Ask every node which hospital it is; a node that does not say so takes no part.

        Raises
        ------
        UserError
            If two nodes have one number, or a hospital does not appear in time.
        """
        deadline = time.monotonic() + self._wait_s
        while True:
            known = self._answers.keys() | self._left_out.keys()
            self._ask([node for node in self.inner.get_node_ids() if node not in known])
            nodes = self._nodes_by_number()
            missing = sorted(set(range(self._hospitals)) - set(nodes))
            self._node_of = nodes
            if not missing:
                break
            if self._is_shared_simulation():
                alike = [nodes[number] for number in sorted(nodes)]
                self._node_of = {number: alike[number % len(alike)] for number in range(self._hospitals)}
                self._shared = True
                break
            # Only a real node may be corrected and started again meanwhile.
            hopeless = bool(self._left_out) and not is_superlink(self.innermost)
            if hopeless or time.monotonic() > deadline:
                raise UserError(self._incomplete(missing, self._hospitals - len(missing)))
            time.sleep(0.2)
        for node, why in self._left_out.items():
            warnings.warn(f"node {node} {why}; it takes no part", UserWarning, stacklevel=2)

    def _nodes_by_number(self) -> dict[int, int]:
        """Return each hospital's node; `UserError` if two nodes claim to be one hospital."""
        nodes: dict[int, int] = {}
        for node, record in self._answers.items():
            number = _number(record)
            if number in nodes and number < self._hospitals:
                raise UserError(
                    f"two nodes claim to be hospital {number}, node {nodes[number]} and node {node}; give "
                    f"each node a partition-id of its own"
                )
            nodes.setdefault(number, node)
        return nodes

    def _incomplete(self, missing: Sequence[int], connected: int) -> str:
        """Return in one sentence which hospital does not take part, and which nodes were left out."""
        if self._left_out:
            node, why = next(iter(self._left_out.items()))
            return f"hospital {missing[0]} is not connected, and node {node} {why}"
        return (
            f"{connected} of {self._hospitals} hospitals are connected, hospital {missing[0]} is "
            f"not; start more nodes or run with --clients {max(1, connected)}"
        )

    @property
    def own_data(self) -> frozenset[int]:
        """Return the hospitals with data of their own, which the server does not know."""
        return frozenset(_number(record) for record in self._answers.values() if record.own_data)

    def _ask(self, nodes: Sequence[int]) -> None:
        questions = [Message(RecordDict(), dst_node_id=n, message_type=MessageType.QUERY) for n in nodes]
        for answer in self.inner.send_and_receive(questions, timeout=self._wait_s):
            node = answer.metadata.src_node_id
            if node not in nodes:
                continue
            if answer.has_error():
                self._left_out[node] = f"does not start: {last_line(answer.error.reason or '')}"
                continue
            record = hospital_record(answer)
            if record.number is None or record.number < 0:
                self._left_out[node] = (
                    'does not say which hospital it is; start it with --node-config "partition-id=0"'
                )
            else:
                self._answers[node] = record

    def _is_shared_simulation(self) -> bool:
        """Tell whether all nodes of a simulation are there, fewer than the hospitals."""
        if not is_simulation(self.innermost) or not self._answers:
            return False
        return next(iter(self._answers.values())).hospitals == len(self._answers)

    def get_node_ids(self) -> Iterable[int]:
        """Return a node id for each hospital that the round asks, in the hospitals' order."""
        part = self._taking_part
        return [number + 1 for number in (range(self._hospitals) if part is None else part.asked)]

    def set_taking_part(self, part: TakingPart | None) -> None:
        """Ask these hospitals in the next exchanges, and let nothing reach those that do not answer."""
        self._taking_part = part

    def set_expected_shapes(self, arrays: ArrayRecord) -> None:
        """Require the names and shapes of these arrays of every new global model."""
        self._shapes = shapes_of(arrays)

    def set_expected_metrics(
        self, metrics: Schema | None, *, finite: bool = False, raised: str | None = None
    ) -> None:
        """Require these metrics of every reply to training; None requires those that most replies have.

        With `finite` single numbers must be finite: a plain Flower strategy would spread one that is not. One
        that a strategy raises to a power must not be negative: `raised` is its name.
        """
        self._metrics, self._finite, self._raised = metrics, finite, raised

    def round_limit_s(self, limit_s: float) -> float:
        """Return how long an exchange may take in which each hospital may take `limit_s`.

        Real nodes train side by side, and so do the hospitals of an engine that says how many; the nodes of
        another simulation perhaps one after another.
        """
        side_by_side = self._hospitals if is_superlink(self.innermost) else self.side_by_side
        asked = self._hospitals if self._taking_part is None else len(self._taking_part.asked)
        return limit_s * math.ceil(asked / side_by_side)

    def check_model(self, arrays: ArrayRecord) -> None:
        """Raise `ValueError` if these cannot be the next global model."""
        shapes = shapes_of(arrays)
        if shapes != self._shapes:
            raise ValueError(f"the new global model is {brief(shapes)} instead of {brief(self._shapes)}")

    @staticmethod
    def hospital_of(message: Message) -> int:
        """Return the number of the hospital that sent a reply of `send_and_receive`."""
        return message.metadata.src_node_id - 1

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Exchange messages; return the replies ordered by hospital, the faulty ones as errors."""
        absent = {} if self._taking_part is None else self._taking_part.absent
        asked = [message for message in messages if message.metadata.dst_node_id - 1 not in absent]
        self._note_unread(asked)
        training = any(m.metadata.message_type.partition(".")[0] == MessageType.TRAIN for m in asked)
        models = (record for m in asked for record in records_in(m.content, ArrayRecord).values())
        model = SentModel(next(models, ArrayRecord())) if training else None
        sent = {message.metadata.dst_node_id - 1: self._addressed(message) for message in asked}
        if len(sent) < len(asked):
            raise UserError(
                "the strategy sends a hospital several messages at once; send one, as only one is answered"
            )
        replies = list(self.inner.send_and_receive(list(sent.values()), timeout=timeout))
        metrics = self._metrics if training else None
        expected = Expected(model, metrics=metrics, finite=self._finite, raised=self._raised)
        checked = check_round(replies, sent, expected)
        self.faults, self.no_effect, self.memory_bytes = list(checked.failures), {}, 0
        self.faults += [ClientFailure(number, _TWICE) for number in checked.repeated]
        usable: dict[int, Message] = {}
        for number, reply in checked.usable.items():
            if reply.hospital.number not in (None, number):
                self.faults.append(ClientFailure(number, f"claims to be hospital {reply.hospital.number}"))
                continue
            self.no_effect[number] = reply.hospital.no_effect
            self.memory_bytes += reply.hospital.memory_bytes
            usable[number] = _as_sent(reply, model)
        self.faults.sort(key=lambda fault: fault.client)
        return [
            _from(number, usable.get(number) or self._refused(number, reply))
            for number, reply in sorted(checked.first.items())
        ]

    def _refused(self, number: int, reply: Message) -> Message:
        """Return an error in place of a reply that cannot be used."""
        if reply.has_error():
            return reply
        reason = next(fault.reason for fault in self.faults if fault.client == number)
        return error_reply(reply, _ERROR_FAULTY_REPLY, reason)

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

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Push messages as the wrapped grid does; their replies are neither ordered nor checked."""
        return self.inner.push_messages([self._addressed(message) for message in messages])


def _as_sent(reply: Reply, model: SentModel | None) -> Message:
    """Return a usable reply's message, with its arrays in the model's types if they are in unusual ones.

    Plain Flower strategies compute in the types that they get, and some in place, so the arrays are copies
    that can be written to. Hospitals send float32, also where a strategy has made float64 of the model.
    """
    if model is None:
        return reply.message
    content = reply.message.content
    name, arrays = next(iter(records_in(content, ArrayRecord).items()))
    usual = {key: {like.dtype, "float32"} for key, like in model.arrays.items() if is_float(like.dtype)}
    if any(arrays[key].dtype not in types for key, types in usual.items()):
        content[name] = to_arrays(reply.parameters.copy(), reply.buffers.copy(), model.arrays)
    return reply.message


def _from(number: int, reply: Message) -> Message:
    """Return a reply as one of the hospital's node as strategies know it."""
    set_sender(reply, number + 1)
    return reply


def _number(record: HospitalRecord) -> int:
    """Return the number of a node that takes part."""
    assert record.number is not None
    return record.number

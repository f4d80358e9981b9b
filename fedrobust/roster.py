"""A thin Grid around any Grid: hospitals in a fixed order, faulty replies taken out and named.

Flower's node ids are random and replies come in the order of arrival. Sums of floats depend on their order, so every
strategy, ours or anybody's, sees the replies sorted by hospital here. The same place checks that a reply can be
aggregated at all: a hospital that crashes, sends NaN, a wrong shape or absurd numbers loses its round, not the run.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from fedrobust.errors import UserError

__all__ = ["Fault", "Roster"]

#: An update this many times as long as the global model is no training step; in float32 it drowns all others.
ABSURD = 1e6

_ERROR_FAULTY_REPLY = 1000


@dataclass(frozen=True)
class Fault:
    """A hospital's lost round: which hospital, and why in a few words."""

    hospital: int
    reason: str


class Roster(Grid):
    """Orders another Grid's nodes and replies by hospital, and turns faulty replies into errors.

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
        """Wrap the grid; `enrol` asks the nodes who they are."""
        self._grid = grid
        self._hospitals = hospitals
        self._wait_s = wait_s
        self._of_node: dict[int, int] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self.faults: list[Fault] = []

    def enrol(self) -> None:
        """Ask every node which hospital it is.

        Raises
        ------
        UserError
            If two nodes claim one hospital, or a hospital does not appear in time.
        """
        deadline = time.monotonic() + self._wait_s
        while True:
            self._ask([node for node in self._grid.get_node_ids() if node not in self._of_node])
            claimed = sorted(number for number in self._of_node.values() if number < self._hospitals)
            twice = sorted({number for number in claimed if claimed.count(number) > 1})
            if twice:
                raise UserError(
                    f"two nodes claim to be hospital {twice[0]}; give each node a partition-id of its own"
                )
            missing = sorted(set(range(self._hospitals)) - set(claimed))
            if not missing:
                return
            if time.monotonic() > deadline:
                raise UserError(
                    f"{len(claimed)} of {self._hospitals} hospitals are connected, hospital {missing[0]} is not; "
                    f"start more nodes or run with --clients {max(1, len(claimed))}"
                )
            time.sleep(0.2)

    def _ask(self, nodes: Sequence[int]) -> None:
        questions = [
            Message(RecordDict(), dst_node_id=node, message_type=MessageType.QUERY) for node in nodes
        ]
        for answer in self._grid.send_and_receive(questions, timeout=self._wait_s):
            if answer.has_error():
                raise UserError(
                    f"node {answer.metadata.src_node_id} does not start: {_last_line(answer.error.reason or '')}"
                )
            self._of_node[answer.metadata.src_node_id] = int(
                cast(int, _hospital_record(answer)["partition-id"])
            )

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of the hospitals' nodes, ordered by hospital."""
        numbered = sorted(
            (number, node) for node, number in self._of_node.items() if number < self._hospitals
        )
        return [node for _, node in numbered]

    def expect(self, arrays: ArrayRecord) -> None:
        """Hold replies to the names and shapes of these arrays."""
        self._shapes = {name: tuple(array.shape) for name, array in arrays.items()}

    def hospital_of(self, message: Message) -> int:
        """Return the number of the hospital that sent a reply."""
        return self._of_node[message.metadata.src_node_id]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Exchange messages; return the replies ordered by hospital, the faulty ones as errors."""
        sent = list(messages)
        base = next((record for m in sent for record in m.content.array_records.values()), None)
        replies = sorted(self._grid.send_and_receive(sent, timeout=timeout), key=self.hospital_of)
        self.faults = []
        checked = []
        for reply in replies:
            fault = self._fault(reply, base)
            if fault is not None:
                self.faults.append(Fault(self.hospital_of(reply), fault))
            if fault is not None and not reply.has_error():
                reply = _as_error(reply, fault)
            checked.append(reply)
        answered = {reply.metadata.src_node_id for reply in replies}
        silent = {
            self._of_node[m.metadata.dst_node_id] for m in sent if m.metadata.dst_node_id not in answered
        }
        self.faults += [Fault(number, "no reply in time") for number in sorted(silent)]
        return checked

    def _fault(self, reply: Message, base: ArrayRecord | None) -> str | None:
        """Return what is wrong with a reply, or None."""
        if reply.has_error():
            return _last_line(reply.error.reason or f"error code {reply.error.code}")
        if reply.metadata.message_type != MessageType.TRAIN:
            return None
        claimed = _hospital_record(reply).get("partition-id", self.hospital_of(reply))
        if claimed != self.hospital_of(reply):
            return f"claims to be hospital {claimed!r}"
        if len(reply.content.array_records) != 1 or len(reply.content.metric_records) != 1:
            return "must send exactly one ArrayRecord and one MetricRecord"
        examples = next(iter(reply.content.metric_records.values())).get("num-examples")
        if not isinstance(examples, int | float) or not 0 < examples < 1e12:
            return f"num-examples is {examples}, not a positive number"
        return self._array_fault(next(iter(reply.content.array_records.values())), base)

    def _array_fault(self, arrays: ArrayRecord, base: ArrayRecord | None) -> str | None:
        shapes = {name: tuple(array.shape) for name, array in arrays.items()}
        if shapes != self._shapes:
            return f"wrong shape: {_brief(shapes)} instead of {_brief(self._shapes)}"
        for name, array in arrays.items():
            values = array.numpy()
            if not np.issubdtype(values.dtype, np.number):
                return f"'{name}' holds {values.dtype}, not numbers"
            if not np.isfinite(values).all():
                return f"'{name}' holds NaN or infinite values"
            start = 0.0 if base is None else float(np.linalg.norm(base[name].numpy().ravel()))
            length = float(np.linalg.norm(values.ravel().astype(np.float64)))
            if length > ABSURD * max(1.0, start):
                return f"'{name}' is absurdly large: length {length:.3g}, the global model's is {start:.3g}"
        return None

    def set_run(self, run: Any) -> None:
        """Pass the run on."""
        self._grid.set_run(run)

    @property
    def run(self) -> Any:
        """Return the wrapped grid's run."""
        return self._grid.run

    def create_message(self, *args: Any, **options: Any) -> Message:
        """Create a message as the wrapped grid does."""
        return self._grid.create_message(*args, **options)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Push messages as the wrapped grid does."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Pull messages as the wrapped grid does, ordered by hospital."""
        return sorted(self._grid.pull_messages(message_ids), key=self.hospital_of)


def _hospital_record(message: Message) -> ConfigRecord:
    record = message.content.config_records.get("hospital", ConfigRecord())
    assert isinstance(record, ConfigRecord)
    return record


def _as_error(reply: Message, reason: str) -> Message:
    return cast(
        Message, cast(Any, Message)(error=Error(_ERROR_FAULTY_REPLY, reason), metadata=reply.metadata)
    )


def _brief(shapes: dict[str, tuple[int, ...]]) -> str:
    return "{" + ", ".join(f"{name}: {shape}" for name, shape in sorted(shapes.items())[:4]) + "}"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "unknown error"

"""Messages that reached a process still being started are sent again, and no others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from flwr.app import Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from fedrobust.engines.local import LocalGrid
from fedrobust.engines.retrying import RestartingGrid

STARTING = (
    "ActorUnavailableError: IOError: The actor is restarting.. The task may or may not have been executed"
)
DEAD = "ActorUnavailableError: RpcError: Socket closed"


class Flaky(LocalGrid):
    """Answers each message, but for those of some nodes the first times, with an error of the given words."""

    def __init__(self, errors: dict[int, list[str]]) -> None:
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 0
        self.errors = errors
        self.asked: list[int] = []
        self._count = 0

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        answers = []
        for message in messages:
            self._count += 1
            assert not message.metadata.delivered_at, "Flower refuses to send what has been delivered"
            message.metadata.delivered_at = "now"
            message.metadata.__dict__["_message_id"] = f"id-{self._count}"
            node = message.metadata.dst_node_id
            self.asked.append(node)
            left = self.errors.get(node, [])
            content: Any = Error(1, left.pop(0)) if left else RecordDict()
            answers.append(Message(content, reply_to=message))
        return answers


def ask(grid: Flaky, nodes: list[int], **options: float) -> tuple[list[Message], list[Message]]:
    messages = [Message(RecordDict(), dst_node_id=node, message_type="train") for node in nodes]
    replies = RestartingGrid(grid, pause_s=0.0, **options).send_and_receive(messages)
    return messages, list(replies)


def test_message_that_reached_no_process_is_sent_again() -> None:
    grid = Flaky({2: [STARTING, STARTING], 3: [DEAD]})
    messages, replies = ask(grid, [1, 2, 3])
    assert grid.asked == [1, 2, 3, 2, 2]
    assert not any(reply.has_error() for reply in replies if reply.metadata.src_node_id != 3)
    (dead,) = (reply for reply in replies if reply.has_error())
    assert dead.error.reason == DEAD
    # Each reply still belongs to its message, by the id that it was sent with last.
    assert {r.metadata.reply_to_message_id for r in replies} == {m.metadata.message_id for m in messages}


def test_patience_ends() -> None:
    grid = Flaky({1: [STARTING] * 5})
    _, replies = ask(grid, [1], patience_s=-1.0)
    assert grid.asked == [1] and cast(Message, replies[0]).has_error()


def test_nothing_asked_is_nothing_sent() -> None:
    grid = Flaky({})
    assert ask(grid, []) == ([], []) and grid.asked == []

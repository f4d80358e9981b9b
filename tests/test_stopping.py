"""Waiting that another thread ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable

import pytest
from federations import fake_app
from flwr.app import Message, MessageType, RecordDict

from fedrobust.engines.local import LocalGrid
from fedrobust.engines.signals import interrupted_by_signals
from fedrobust.engines.stopping import StoppableGrid, Stopped


class Late(LocalGrid):
    """Returns one reply at each look, and none of the last node's."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        found = list(super().pull_messages(sorted(message_ids)[:1]))
        for reply in found:
            reply.metadata.__dict__["_reply_to_message_id"] = min(message_ids)
        return found if len(set(message_ids)) > 1 else []


def asked(nodes: int) -> list[Message]:
    return [Message(RecordDict(), node, MessageType.QUERY) for node in range(1, nodes + 1)]


def test_replies_that_come_in_time_are_returned() -> None:
    app = fake_app(lambda arrays, number: (arrays, {}))
    grid = StoppableGrid(Late(app, 3), threading.Event(), poll_s=0.001, slack_s=0)
    assert len(list(grid.send_and_receive(asked(3), timeout=0.05))) == 2


def test_a_stop_ends_the_wait_and_every_later_exchange() -> None:
    stop = threading.Event()
    grid = StoppableGrid(Late(fake_app(lambda arrays, number: (arrays, {})), 2), stop, poll_s=60)
    threading.Timer(0.05, stop.set).start()
    for _ in range(2):
        with pytest.raises(Stopped):
            grid.send_and_receive(asked(2))


def test_sigterm_interrupts_the_block_as_ctrl_c_does() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interrupted_by_signals():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before

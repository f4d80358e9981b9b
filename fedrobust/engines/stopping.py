"""A Grid whose waiting can be ended from another thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from flwr.app import Message
from flwr.serverapp import Grid

from fedrobust.flower.grid import WrappedGrid

__all__ = ["StoppableGrid", "Stopped"]


#: A process may have to start again, and each limits its hospital by itself.
_STARTING_S = 60.0


class Stopped(BaseException):
    """The run has been interrupted. Not an `Exception`, so that no code catches it and continues."""


class StoppableGrid(WrappedGrid):
    """Exchanges messages as Flower's grid does, but stops waiting for replies once an event is set.

    Flower's simulation runs the ServerApp in a thread, which no signal reaches: after Ctrl-C it would wait
    for hospitals that have ended until their time is over.

    Parameters
    ----------
    grid : Grid
    stop : threading.Event
        Once set, every exchange raises `Stopped`.
    side_by_side : int
        How many hospitals train at the same time.
    poll_s : float
        Seconds between two checks for replies.
    slack_s : float
        Seconds beyond the time limit of an exchange.
    """

    def __init__(
        self,
        grid: Grid,
        stop: threading.Event,
        side_by_side: int = 1,
        poll_s: float = 0.1,
        slack_s: float = _STARTING_S,
    ) -> None:
        """Wrap the grid."""
        super().__init__(grid)
        self._slack_s = slack_s
        self._stop, self._side_by_side, self._poll_s = stop, side_by_side, poll_s

    @property
    def side_by_side(self) -> int:
        """Return how many hospitals train at the same time."""
        return self._side_by_side

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Exchange messages; return the replies that come in time."""
        if self._stop.is_set():
            raise Stopped
        waiting = set(self.inner.push_messages(messages))
        deadline = None if timeout is None else time.monotonic() + timeout + self._slack_s
        replies: list[Message] = []
        while waiting and (deadline is None or time.monotonic() < deadline):
            found = list(self.inner.pull_messages(waiting))
            replies += found
            waiting -= {reply.metadata.reply_to_message_id for reply in found}
            if waiting and self._stop.wait(self._poll_s):
                raise Stopped
        return replies

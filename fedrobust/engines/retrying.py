"""A Grid around Flower's simulation that sends a message again if it reached no process."""

from __future__ import annotations

import time
from collections.abc import Iterable

from flwr.app import Message
from flwr.serverapp import Grid

from fedrobust.flower.grid import WrappedGrid

__all__ = ["RestartingGrid"]

#: Ray's words for a message that never reached its process because that one is being restarted.
_NOT_REACHED = "The actor is restarting"


class RestartingGrid(WrappedGrid):
    """Sends a message again as long as the process that should answer it is still being restarted.

    A hospital that kills its process fails in that round. Without this wrapper, so would every hospital that
    Flower assigns to the same process before Ray has restarted it, which takes seconds.

    Parameters
    ----------
    grid : Grid
    pause_s : float
        Between one attempt and the next.
    patience_s : float
        After this time the error is final.
    """

    def __init__(self, grid: Grid, pause_s: float = 1.0, patience_s: float = 120.0) -> None:
        """Wrap the grid."""
        super().__init__(grid)
        self._pause_s, self._patience_s = pause_s, patience_s

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Exchange messages as the wrapped grid does, and send those again that reached no process."""
        asked, replies = list(messages), []
        began = time.monotonic()
        while asked:
            # Each sending gives a message a new id.
            answers = list(self.inner.send_and_receive(asked, timeout=timeout))
            questions = {message.metadata.message_id: message for message in asked}
            may_repeat = time.monotonic() - began < self._patience_s
            asked = []
            for answer in answers:
                question = questions.get(answer.metadata.reply_to_message_id)
                if question is not None and may_repeat and _not_reached(answer):
                    # Flower refuses to send what has been delivered.
                    question.metadata.delivered_at = ""
                    asked.append(question)
                else:
                    replies.append(answer)
            if asked:
                time.sleep(self._pause_s)
        return replies


def _not_reached(answer: Message) -> bool:
    return answer.has_error() and _NOT_REACHED in (answer.error.reason or "")

"""A Grid around Flower's simulation that asks again where Ray says that nobody was there to ask."""

from __future__ import annotations

import time
from collections.abc import Iterable

from flwr.app import Message
from flwr.serverapp import Grid

from fedrobust.flower.grid import WrappedGrid

__all__ = ["RestartingGrid"]

#: How Ray says that a message never reached the process that it was for, as that one is being started afresh.
_NOT_REACHED = "The actor is restarting"


class RestartingGrid(WrappedGrid):
    """Sends a message again as long as the process that should answer it is still being started.

    A hospital that kills its process costs itself the round. Without this it would cost one to every hospital that
    Flower hands to the same process before Ray has started it anew, which takes seconds.

    Parameters
    ----------
    grid : Grid
    pause_s : float
        Between one attempt and the next.
    patience_s : float
        After so long the error stands.
    """

    def __init__(self, grid: Grid, pause_s: float = 1.0, patience_s: float = 120.0) -> None:
        """Wrap the grid."""
        super().__init__(grid)
        self._pause_s, self._patience_s = pause_s, patience_s

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Exchange messages as the wrapped grid does, those that reached nobody again."""
        asked, replies = list(messages), []
        began = time.monotonic()
        while asked:
            # Each sending gives a message a new id.
            answers = list(self.inner.send_and_receive(asked, timeout=timeout))
            questions = {message.metadata.message_id: message for message in asked}
            patient = time.monotonic() - began < self._patience_s
            asked = []
            for answer in answers:
                question = questions.get(answer.metadata.reply_to_message_id)
                if question is not None and patient and _not_reached(answer):
                    asked.append(question)
                else:
                    replies.append(answer)
            if asked:
                time.sleep(self._pause_s)
        return replies


def _not_reached(answer: Message) -> bool:
    return answer.has_error() and _NOT_REACHED in (answer.error.reason or "")

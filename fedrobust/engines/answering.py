"""A hospital's answer to one message: whatever its code does, only its own round fails."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import traceback

from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp

from fedrobust.engines.process_state import ProcessState
from fedrobust.engines.signals import noted_signals
from fedrobust.engines.timeouts import Overdue, may_end_this_process, time_limit
from fedrobust.flower.reply_checks import last_line

__all__ = ["LimitedApp", "answer", "no_answer"]

_ERROR_CLIENT_RAISED = 1
_ERROR_OVERDUE = 2

#: Characters of a traceback that travel to the server; of a longer one only its last line does.
_TRACEBACK = 10_000


def no_answer(seconds: float) -> str:
    """Return the reason why a hospital failed that did not answer in time."""
    return f"no answer within {seconds:g} s"


def answer(app: ClientApp, message: Message, context: Context, limit_s: float = math.inf) -> Message:
    """Return a ClientApp's reply, or an error in its place, whatever it raises.

    What it prints goes to the error output. What it changes of the process is set back where that is
    possible. A real signal, such as that of Ctrl-C, goes on to who handles it.

    Parameters
    ----------
    app : ClientApp
    message : Message
    context : Context
        The hospital's.
    limit_s : float
        Seconds before the hospital is dropped from the round, as far as `time_limit` can interrupt it.
    """
    process, state = os.getpid(), ProcessState()
    try:
        with noted_signals() as signalled, contextlib.redirect_stdout(sys.stderr):
            try:
                with time_limit(limit_s):
                    reply = app(message, context)
            except Overdue:
                reply = Message(Error(_ERROR_OVERDUE, no_answer(limit_s)), reply_to=message)
            except BaseException:
                if signalled():
                    raise
                reply = Message(Error(_ERROR_CLIENT_RAISED, _traceback()), reply_to=message)
    finally:
        if os.getpid() != process:
            # A copy of this process that the hospital made: it must not go on as if it were the first one.
            os._exit(0)
        state.restore()
    return reply


def _traceback() -> str:
    text = traceback.format_exc()
    return text if len(text) <= _TRACEBACK else last_line(text)


class LimitedApp(ClientApp):
    """A ClientApp in a process that serves it alone, such as Ray's: guarded by `answer`.

    Where neither an exception nor the time limit's alarm ends a hospital's work, the process is ended; who
    started it starts it again.

    Parameters
    ----------
    app : ClientApp
    limit_s : float
        Seconds before a hospital is dropped from the round.
    """

    def __init__(self, app: ClientApp, limit_s: float) -> None:
        """Wrap the app."""
        super().__init__()
        self._app, self._limit_s = app, limit_s

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer a message."""
        may_end_this_process()
        # Before the time counts: an import that an alarm interrupts would fail ever after.
        import fedrobust.engines.preload  # noqa: F401

        return answer(self._app, message, context, self._limit_s)

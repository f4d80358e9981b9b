"""A time limit for work in this very process, where no worker can be ended."""

from __future__ import annotations

import contextlib
import faulthandler
import math
import os
import signal
import threading
from collections.abc import Iterator
from typing import NoReturn

__all__ = ["GRACE_S", "Overdue", "may_end_this_process", "time_limit"]

#: Seconds past the limit until a process that may be ended is.
GRACE_S = 5.0

#: Seconds between two alarms.
_AGAIN_S = 1.0

_expendable = False


def may_end_this_process() -> None:
    """Let `time_limit` end this process where the alarm does not end the block within `GRACE_S` seconds."""
    global _expendable
    _expendable = True


class Overdue(BaseException):
    """The time is over. No `Exception`, so that a plug-in which catches those does not catch this."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `Overdue` where the block is, once it has taken so long.

    The system's alarm does it, so only in the main thread, where the system has one and it is not in use;
    anywhere else there is no limit. Python sees the alarm between two of its own instructions: it ends a
    sleep, a wait or a loop, but no computation within a library. Such a one ends the process, after
    `may_end_this_process`. The alarm comes again every second, as the block may catch what it raises; and a
    block that ends nevertheless is overdue all the same.
    """
    if seconds == math.inf:
        yield
        return
    with _process_limit(seconds + GRACE_S):
        if not _alarm_is_free():
            yield
            return
        rung: list[int] = []

        def overdue(number: int, frame: object) -> NoReturn:
            rung.append(number)
            raise Overdue

        before = signal.signal(signal.SIGALRM, overdue)
        signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_S)
        try:
            yield
        finally:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0)
            finally:
                # Once more, as the alarm may have come just here.
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)
        if rung:
            raise Overdue


@contextlib.contextmanager
def _process_limit(seconds: float) -> Iterator[None]:
    """End the process after so long, if it may be ended: from a thread that needs nothing of Python's."""
    if not _expendable:
        yield
        return
    with open(os.devnull, "w") as nowhere:
        faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def _alarm_is_free() -> bool:
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        return False
    return signal.getsignal(signal.SIGALRM) == signal.SIG_DFL and signal.getitimer(signal.ITIMER_REAL)[0] == 0

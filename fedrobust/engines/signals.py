"""Signals that end a run in order, and an end that no signal interrupts."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

__all__ = [
    "ending_on_signals",
    "ignoring_signals",
    "interrupted_by_signals",
    "noted_interrupts",
    "noted_signals",
]

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Handler = Callable[[int, FrameType | None], object] | signal.Handlers


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the block as Ctrl-C does, with their own exit codes."""

    def end(number: int, _: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    with _handling((signal.SIGTERM, signal.SIGHUP), end):
        yield


@contextmanager
def interrupted_by_signals() -> Iterator[threading.Event]:
    """Let Ctrl-C and SIGTERM raise `KeyboardInterrupt` in the block.

    Yields
    ------
    threading.Event
        Set once a signal has come: a library may have put another exception in the interrupt's place.
    """
    came = threading.Event()

    def interrupt(_: int, __: FrameType | None) -> NoReturn:
        came.set()
        raise KeyboardInterrupt

    with _handling((signal.SIGINT, signal.SIGTERM), interrupt):
        yield came


@contextmanager
def noted_interrupts() -> Iterator[threading.Event]:
    """Note Ctrl-C in the block, where Python's own handler raises `KeyboardInterrupt` of it.

    Python drops what a signal raises in a destructor or in a callback of the collector.

    Yields
    ------
    threading.Event
        Set once Ctrl-C has come.
    """
    came = threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        came.set()
        signal.default_int_handler(number, frame)

    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with _handling((signal.SIGINT,) if ours else (), interrupt):
        yield came


@contextmanager
def noted_signals() -> Iterator[Callable[[], bool]]:
    """Note the signals that come in the block; what handles them does so as before.

    The code in the block may raise `KeyboardInterrupt` or `SystemExit` itself, which is no signal, or catch
    what a handler raised: at the end of the block the handler is called again.

    Yields
    ------
    callable
        Tells whether a signal has come.
    """
    came: list[int] = []
    ours = threading.current_thread() is threading.main_thread()
    found = {number: signal.getsignal(number) for number in _ENDING} if ours else {}
    handlers = {number: handler for number, handler in found.items() if callable(handler)}

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        handlers[signal.Signals(number)](number, frame)

    for number in handlers:
        signal.signal(number, note)
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if came:
        handlers[signal.Signals(came[0])](came[0], None)


@contextmanager
def ignoring_signals() -> Iterator[None]:
    """Let nothing but SIGKILL interrupt the block."""
    with _handling((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), signal.SIG_IGN):
        yield


@contextmanager
def _handling(numbers: Sequence[signal.Signals], handler: Handler) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread only.
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)

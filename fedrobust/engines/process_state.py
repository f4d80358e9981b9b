"""What a hospital's code may change of the process that it runs in, and how it is set back.

The next hospital, or the server itself, runs in the same process.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["ProcessState", "adopt_orphans", "descendants"]

#: The option of Linux's prctl by which orphans come to this process, not to the system's first.
_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class _Item:
    """A part of the process's state."""

    value: Any
    read: Callable[[], Any]
    write: Callable[[Any], object]


class ProcessState:
    """The state of this process when the object was made.

    Limits of the system, the working folder, the permissions of new files, the environment, the handlers of
    signals, and what torch, NumPy and Python itself keep for the whole process. Modules that a hospital
    changes are its own affair.
    """

    def __init__(self) -> None:
        """Read it."""
        self._items = [_Item(read(), read, write) for read, write in _parts()]

    def restore(self) -> bool:
        """Set back what has changed; return whether all is as it was."""
        whole = True
        for item in self._items:
            with contextlib.suppress(Exception):
                if item.read() == item.value:
                    continue
                item.write(item.value)
                if item.read() == item.value:
                    continue
            whole = False
        return whole


def _parts() -> Iterator[tuple[Callable[[], Any], Callable[[Any], object]]]:
    """Yield how to read and to write each part of the state."""
    yield os.getcwd, os.chdir
    yield _umask, os.umask
    yield lambda: dict(os.environ), _set_environment
    yield np.geterr, lambda value: np.seterr(**value)
    yield sys.getrecursionlimit, sys.setrecursionlimit
    yield gc.isenabled, lambda value: gc.enable() if value else gc.disable()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        yield _handler(number)
    yield from _limits()
    torch = sys.modules.get("torch")
    if torch is not None:
        yield torch.get_default_dtype, torch.set_default_dtype
        yield torch.get_num_threads, torch.set_num_threads
        yield torch.is_grad_enabled, torch.set_grad_enabled


def _umask() -> int:
    """Return the permissions that new files lack, which are read by setting them."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _set_environment(value: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(value)


def _handler(number: signal.Signals) -> tuple[Callable[[], Any], Callable[[Any], object]]:
    return lambda: signal.getsignal(number), lambda value: signal.signal(number, value)


def _limits() -> Iterator[tuple[Callable[[], Any], Callable[[Any], object]]]:
    """Yield the system's limits of this process; nothing where the system has none."""
    try:
        import resource
    except ImportError:
        return
    for name in sorted(name for name in dir(resource) if name.startswith("RLIMIT_")):
        number = getattr(resource, name)

        def read(number: int = number) -> tuple[int, int]:
            return resource.getrlimit(number)

        def write(value: tuple[int, int], number: int = number) -> None:
            resource.setrlimit(number, value)

        yield read, write


def adopt_orphans() -> None:
    """Let what this process's children leave running become its own children, where the system can."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """Return the ids of a process's children and of theirs, where the system says them."""
    found: list[int] = []
    left = [pid]
    while left:
        # A process may end meanwhile.
        with contextlib.suppress(OSError):
            for file in Path(f"/proc/{left.pop()}/task").glob("*/children"):
                new = [int(word) for word in file.read_text().split()]
                found += new
                left += new
    return found

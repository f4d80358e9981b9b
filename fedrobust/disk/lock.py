"""A folder's owner: one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from fedrobust.disk.files import SAFE, still_named
from fedrobust.errors import UserError

__all__ = ["Held", "Lock"]

#: A lock is asked for so often, with pauses: another process may hold it for a moment to see if it is free.
_TRIES, _PAUSE_S = 20, 0.01


class Held(UserError):
    """Another process holds a lock."""


class Lock:
    """A run folder's owner: one process at a time, whatever their timing; it ends with its process.

    The lock is on a file beside the folder. Its owner deletes the file before it lets go, so a process holds
    the lock only if the file that it locked still has its name.

    Parameters
    ----------
    folder : Path
        The run folder in its final place; the folder above it exists.

    Raises
    ------
    Held
        If another process is the owner.
    OSError
        If the file cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        """Take the lock."""
        self._path = _lock_file(folder)
        for left in reversed(range(_TRIES)):
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | SAFE, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if still_named(descriptor, self._path):
                    self._descriptor: int | None = descriptor
                    break
            except BlockingIOError:
                if not left:
                    who = _owner(descriptor)
                    os.close(descriptor)
                    raise Held(
                        f"{folder}: {who} is running these settings; wait for it, or give another --out"
                    ) from None
                time.sleep(_PAUSE_S)
            except OSError:
                os.close(descriptor)
                raise
            os.close(descriptor)
        else:
            raise Held(f"{folder}: another process is running these settings; give another --out")
        with contextlib.suppress(OSError):  # A full disk: the lock is held all the same.
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, _name_of_this_process().encode(), 0)

    @staticmethod
    def is_left(folder: Path) -> bool:
        """Tell whether the lock's file is there: the lock is held, or its owner was killed."""
        return _lock_file(folder).exists()

    @staticmethod
    def holder(folder: Path) -> str:
        """Return who holds a folder's lock, in words; empty if nobody does."""
        try:
            descriptor = os.open(_lock_file(folder), os.O_RDONLY | SAFE)
        except OSError:
            return ""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _owner(descriptor)
        except OSError:
            return ""
        finally:
            os.close(descriptor)
        return ""

    def release(self) -> None:
        """Let go; may be called again."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        """Hold the lock for the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go."""
        self.release()


def _lock_file(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


def _name_of_this_process() -> str:
    return f"number {os.getpid()} on {socket.gethostname()}"


def _owner(descriptor: int) -> str:
    """Return who holds a lock, in words, from its file."""
    name = os.pread(descriptor, 200, 0).decode(errors="replace")
    return f"another process ({name})" if name and name.isprintable() else "another process"

"""Files in a folder that may come from anybody, and that several processes may write.

A file is read only if it is a regular file of a bounded size; a link in such a folder is never followed, so
nothing outside is read or written. A file is replaced in one step, so a reader sees the old or the new one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from fedrobust.errors import UserError

__all__ = [
    "Held",
    "Lock",
    "append_bytes",
    "discard_aside",
    "open_regular",
    "read_regular",
    "sweep_asides",
    "write_bytes",
]

#: No file of a run or a suite that is read as a whole is longer; a longer one is refused.
MOST_BYTES = 1 << 30

#: A lock is asked for so often, with pauses: another process may hold it for a moment to see if it is free.
_TRIES, _PAUSE_S = 20, 0.01

_SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextlib.contextmanager
def open_regular(path: Path) -> Iterator[io.BufferedReader]:
    """Open a regular file for reading, never what a link points to.

    Raises
    ------
    UserError
        If it cannot be opened or read, or is not a regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _SAFE)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UserError(f"{path} is a symbolic link, which is not followed; put the file there") from None
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UserError(f"{path} cannot be read (it is not a regular file)")
        with open(descriptor, "rb", closefd=False) as file:
            yield file
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    finally:
        os.close(descriptor)


def read_regular(path: Path) -> bytes:
    """Return a file's content.

    Raises
    ------
    UserError
        If it cannot be read, or is a link, not a regular file or too long.
    """
    with open_regular(path) as file:
        length = os.fstat(file.fileno()).st_size
        if length > MOST_BYTES:
            raise UserError(f"{path} cannot be read ({length:,} bytes; at most {MOST_BYTES:,})")
        return file.read()


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file in one step: it is written aside and renamed.

    Raises
    ------
    OSError
        If it cannot be written; what stood there before still does.
    """
    aside = _aside(path)
    descriptor = _open_aside(aside)
    try:
        os.ftruncate(descriptor, 0)
        _write(descriptor, content)
        os.replace(aside, path)
    except OSError:
        # Half a file would take the room that the disk lacks.
        with contextlib.suppress(OSError):
            os.unlink(aside)
        raise
    finally:
        os.close(descriptor)


def append_bytes(path: Path, content: bytes) -> None:
    """Add to the end of a regular file that has no other name.

    Raises
    ------
    OSError
        If it cannot be written; a part may have been.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _SAFE, 0o666)
    try:
        if not _alone(os.fstat(descriptor)):
            raise OSError(errno.EPERM, "not a regular file, or one with a second name", str(path))
        _write(descriptor, content)
    finally:
        os.close(descriptor)


def discard_aside(path: Path) -> None:
    """Delete what an interrupted replacement of a file has left."""
    _aside(path).unlink(missing_ok=True)


def sweep_asides(folder: Path) -> None:
    """Delete what interrupted replacements have left in a folder that no other process writes to."""
    for path in folder.glob(".*.aside"):
        path.unlink()


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
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | _SAFE, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_there(descriptor, self._path):
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
            descriptor = os.open(_lock_file(folder), os.O_RDONLY | _SAFE)
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


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.aside")


def _open_aside(aside: Path) -> int:
    """Return a descriptor of a file that this process alone writes, whatever stood there."""
    while True:
        try:
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | _SAFE, 0o666)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO):  # A link, a pipe without a reader.
                raise
            os.unlink(aside)
            continue
        # Another process that replaces the same file is waited for; it renames what was locked.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_there(descriptor, aside):
            if _alone(os.fstat(descriptor)):
                return descriptor
            os.unlink(aside)
        os.close(descriptor)


def _is_there(descriptor: int, path: Path) -> bool:
    """Tell whether an open file still has its name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _alone(about: os.stat_result) -> bool:
    """Tell whether a file is a regular one without a second name, which may be outside the folder."""
    return stat.S_ISREG(about.st_mode) and about.st_nlink == 1


def _write(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]

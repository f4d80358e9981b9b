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
import stat
from collections.abc import Iterator
from pathlib import Path

from fedrobust.errors import UserError

__all__ = [
    "SAFE",
    "append_bytes",
    "discard_aside",
    "open_regular",
    "read_regular",
    "still_named",
    "sweep_asides",
    "write_bytes",
]

#: No file of a run or a suite that is read as a whole is longer; a longer one is refused.
MOST_BYTES = 1 << 30

#: How a file is opened whose name may be a link or a pipe.
SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextlib.contextmanager
def open_regular(path: Path) -> Iterator[io.BufferedReader]:
    """Open a regular file for reading, never what a link points to.

    Raises
    ------
    UserError
        If it cannot be opened or read, or is not a regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | SAFE)
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
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | SAFE, 0o666)
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


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.aside")


def _open_aside(aside: Path) -> int:
    """Return a descriptor of a file that this process alone writes, whatever stood there."""
    while True:
        try:
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | SAFE, 0o666)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO):  # A link, a pipe without a reader.
                raise
            os.unlink(aside)
            continue
        # Another process that replaces the same file is waited for; it renames what was locked.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if still_named(descriptor, aside):
            if _alone(os.fstat(descriptor)):
                return descriptor
            os.unlink(aside)
        os.close(descriptor)


def still_named(descriptor: int, path: Path) -> bool:
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

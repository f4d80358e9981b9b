"""A folder in shared memory that is removed after its process ends, even if it is killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

__all__ = ["SharedFolder"]

_PREFIX = "fedrobust-"
_LOCK = "lock"


class SharedFolder:
    """A new folder in shared memory, or on disk where memory has no room for twice the bytes needed.

    A process that is killed leaves its folder behind, and with it the memory. So the folder is locked as long
    as its process lives, and each new folder removes those that are not locked.

    Parameters
    ----------
    needed : int
        Bytes that it will hold.
    inside : Path, optional
        Where to make it, instead.

    Attributes
    ----------
    path : Path
    """

    def __init__(self, needed: int, inside: Path | None = None) -> None:
        """Make the folder and lock it."""
        parent = inside or _place_for(needed)
        with contextlib.suppress(OSError):
            _sweep(parent)
        # Locked before it gets the name that `_sweep` looks for.
        fresh = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=parent))
        self._lock: int | None = _locked(fresh / _LOCK)
        self.path = fresh.rename(fresh.with_name(fresh.name.removeprefix(".")))

    def remove(self) -> None:
        """Remove the folder; arrays in use stay until they are released."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _place_for(needed: int) -> Path:
    memory = Path("/dev/shm")
    with contextlib.suppress(OSError):
        if shutil.disk_usage(memory).free > 2 * needed and os.access(memory, os.W_OK):
            return memory
    return Path(tempfile.gettempdir())


def _sweep(parent: Path) -> None:
    """Remove the folders of processes that are gone."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            os.close(_locked(folder / _LOCK, create=False))
            shutil.rmtree(folder, ignore_errors=True)


def _locked(file: Path, *, create: bool = True) -> int:
    """Return a locked file's descriptor; `OSError` if another process holds the lock."""
    import fcntl

    descriptor = os.open(file, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor

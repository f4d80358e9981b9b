"""Ends a deployment whose maker is gone, `kill -9` included: its processes, and its folder.

The maker holds the other end of this process's input, which ends when the maker does, in whatever way. If
this process is killed too, `remove_abandoned` does its work when the next deployment starts.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

from fedrobust.deploy.processes import end_marked
from fedrobust.engines.signals import ignoring_signals

__all__ = ["PREFIX", "Keeper", "remove_abandoned"]

#: What the names of deployments' temporary folders begin with.
PREFIX = "fedrobust-deploy-"
_OWNER = "owner"


class Keeper:
    """Makes a deployment's folder, and watches over it in a process of its own.

    Attributes
    ----------
    folder : Path
        New, with mode 0700.
    """

    def __init__(self) -> None:
        """Make the folder, lock it for as long as this process lives, and start to watch."""
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
        # Locked before it has its name, so that nobody ever finds it unlocked.
        unnamed = self.folder / f"{_OWNER}.new"
        self._lock = os.open(unnamed, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        unnamed.rename(self.folder / _OWNER)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fedrobust.deploy.keeper", str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def close(self) -> None:
        """Remove the folder, whose processes have ended, and stop to watch."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def remove_abandoned() -> list[Path]:
    """End and remove what this user's killed deployments left behind; return their folders."""
    found = [folder for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*") if _is_abandoned(folder)]
    for folder in found:
        _remove(folder.resolve())
    return found


def _is_abandoned(folder: Path) -> bool:
    """Tell whether nobody holds the lock of a folder of ours; links and other users' folders are not ours."""
    try:
        about = folder.lstat()
        if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
            return False
        lock = os.open(folder / _OWNER, os.O_WRONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True


def _remove(folder: Path) -> None:
    end_marked(folder)
    shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Wait for the end of the input, and remove the folder that the argument names if it is still there."""
    with ignoring_signals():
        sys.stdin.buffer.read()
        folder = Path(sys.argv[1])
        if folder.exists():
            _remove(folder)


if __name__ == "__main__":
    main()

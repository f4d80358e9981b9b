"""A folder for sockets with a short path: systems allow about a hundred bytes for a socket's name."""

from __future__ import annotations

import functools
import os
import tempfile

from fedrobust.errors import UserError

__all__ = ["socket_folder", "use_socket_folder"]

#: Ray adds up to 63 bytes, the fork server 32; a name may have 107 bytes on Linux and 103 on macOS.
_LONGEST = 40
_SHORT = ("/tmp", "/var/tmp", "/dev/shm")


def socket_folder() -> str:
    """Return the folder for temporary files, or another one where its path is too long for sockets.

    Raises
    ------
    UserError
        If there is none.
    """
    usual = tempfile.gettempdir()
    if len(os.fsencode(usual)) <= _LONGEST:
        return usual
    for folder in _SHORT:
        if os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise UserError(
        f"TMPDIR {usual} is too long for the name of a socket, and {', '.join(_SHORT)} cannot be written to; "
        f"set TMPDIR to a folder of at most {_LONGEST} bytes"
    )


@functools.cache
def use_socket_folder() -> None:
    """Let the fork server of this process make its socket where the path is short enough."""
    import multiprocessing.util

    before, tempfile.tempdir = tempfile.tempdir, socket_folder()
    try:
        # Made once for each process and kept.
        multiprocessing.util.get_temp_dir()
    finally:
        tempfile.tempdir = before

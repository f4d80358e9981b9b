"""Folders for sockets where the usual one has too long a path."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fedrobust.engines import socket_folder
from fedrobust.errors import UserError


def _long(tmp_path: Path) -> Path:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    return folder


def test_a_short_temporary_folder_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    assert socket_folder.socket_folder() == "/tmp"


def test_a_long_temporary_folder_is_replaced_by_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(_long(tmp_path)))
    assert socket_folder.socket_folder() in ("/tmp", "/var/tmp", "/dev/shm")
    monkeypatch.setattr(socket_folder, "_SHORT", (str(tmp_path / "missing"),))
    with pytest.raises(
        UserError, match="TMPDIR .* is too long .* set TMPDIR to a folder of at most 40 bytes"
    ):
        socket_folder.socket_folder()


def test_the_fork_server_starts_with_a_long_temporary_folder(tmp_path: Path) -> None:
    code = (
        "from fedrobust.engines.socket_folder import use_socket_folder; use_socket_folder()\n"
        "import multiprocessing, multiprocessing.forkserver, tempfile\n"
        "multiprocessing.forkserver.ensure_running(); print(tempfile.gettempdir())"
    )
    folder = _long(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    # Other temporary files stay where the user wants them.
    assert (done.returncode, done.stdout.strip()) == (0, str(folder)), done.stderr

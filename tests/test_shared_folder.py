"""Shared folders go with their process, and only then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from fedrobust.engines.shared_folder import SharedFolder


def test_a_folder_is_made_and_removed(tmp_path: Path) -> None:
    folder = SharedFolder(10, inside=tmp_path)
    (folder.path / "slots").write_bytes(b"x")
    assert folder.path.parent == tmp_path and folder.path.stat().st_mode & 0o077 == 0
    folder.remove()
    folder.remove()
    assert list(tmp_path.iterdir()) == []


def test_folder_in_use_stays_and_that_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from fedrobust.engines.shared_folder import SharedFolder\n"
        "folder = SharedFolder(10, inside=Path(sys.argv[1])); print(folder.path, flush=True); "
        "sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    theirs = Path(other.stdout.readline().strip())
    first = SharedFolder(10, inside=tmp_path)
    assert theirs.is_dir() and first.path.is_dir()
    os.kill(other.pid, signal.SIGKILL)
    other.communicate()
    second = SharedFolder(10, inside=tmp_path)
    assert not theirs.exists() and first.path.is_dir() and second.path.is_dir()


def test_folder_of_another_program_stays(tmp_path: Path) -> None:
    stranger = tmp_path / "fedrobust-notes"
    stranger.mkdir()
    (stranger / "diary").write_text("mine")
    SharedFolder(10, inside=tmp_path).remove()
    assert (stranger / "diary").exists()


def test_content_larger_than_memory_is_on_disk() -> None:
    folder = SharedFolder(1 << 60)
    try:
        assert not folder.path.is_relative_to("/dev/shm")
    finally:
        folder.remove()

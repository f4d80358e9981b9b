"""Forks of a process that has imported everything, and faults at their system calls by strace."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Ended", "Point", "can_trace", "in_child", "write_points"]

#: The system calls that change a file system.
WRITES = (
    *("openat", "write", "pwrite64", "writev", "ftruncate", "rename", "renameat", "renameat2"),
    *("link", "linkat", "symlink", "symlinkat", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat"),
)

#: A process that lets any other trace it, where only ancestors may: from Linux's prctl.h.
_PR_SET_PTRACER, _ANY = 0x59616D61, -1

#: A child that takes longer hangs.
_MOST_S = 120.0

_CALL = re.compile(r"^(\d+) +(?:[\d.]+ +)?(\w+)\((.*)")


@dataclass(frozen=True)
class Point:
    """One call that writes: its name, and which one it is among the process's calls of that name."""

    call: str
    number: int
    line: str


@dataclass(frozen=True)
class Ended:
    """How a child ended: its exit code (the signal's number, negative, if it was killed) and its output."""

    code: int
    output: str

    @property
    def killed(self) -> bool:
        """Tell whether SIGKILL ended it."""
        return self.code == -signal.SIGKILL


def can_trace() -> bool:
    """Tell whether strace is installed and may attach to a child."""
    if shutil.which("strace") is None:
        return False
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return in_child(lambda: os.write(1, b"x"), Path("/tmp"), ["-e", "inject=write:signal=KILL"]).killed
    return False


def in_child(function: Callable[[], object], folder: Path, strace: Sequence[str] = ()) -> Ended:
    """Run a function in a fork of this process, in a folder, under strace if there are arguments for it."""
    output = folder / f".output-{time.monotonic_ns()}"
    pid = os.fork()
    if pid == 0:
        _child(function, folder, output, stop=bool(strace))
    tracer = _attached(pid, strace) if strace else None
    try:
        code = _waited_for(pid)
    finally:
        if tracer is not None:
            tracer.wait(timeout=30)
    text = output.read_text(errors="replace") if output.exists() else ""
    output.unlink(missing_ok=True)
    return Ended(code, text)


def write_points(function: Callable[[], object], folder: Path, within: Path) -> tuple[Ended, list[Point]]:
    """Run a function in a child, and return its calls that write to what is within a folder."""
    log = folder / ".strace"
    ended = in_child(function, folder, ["-y", "-s", "300", "-o", str(log), "-e", f"trace={','.join(WRITES)}"])
    counts: Counter[str] = Counter()
    points, first = [], ""
    for pid, call, rest in _calls(log):
        first = first or pid
        if pid != first:
            continue
        counts[call] += 1
        reads = call == "openat" and "O_CREAT" not in rest and "O_TRUNC" not in rest
        if str(within) in rest and not reads:
            points.append(Point(call, counts[call], rest[:200]))
    log.unlink()
    return ended, points


def _calls(log: Path) -> Iterator[tuple[str, str, str]]:
    for line in log.read_text(errors="replace").splitlines():
        found = _CALL.match(line) or _CALL.match(f"0 {line}")
        if found:
            yield found[1], found[2], found[3]


def _child(function: Callable[[], object], folder: Path, output: Path, *, stop: bool) -> None:
    """Run a function as a program would, and end the process."""
    code = 70
    try:
        os.setpgid(0, 0)
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        os.chdir(folder)
        if stop:
            ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(_ANY), 0, 0, 0)
            os.kill(os.getpid(), signal.SIGSTOP)
        function()
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
    except BaseException:  # noqa: BLE001 - shown to the parent
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _attached(pid: int, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """Let strace attach to a child that has stopped itself, and let the child continue."""
    os.waitpid(pid, os.WUNTRACED)
    where = () if "-o" in arguments else ("-o", "/dev/null")
    words = ["strace", "-f", "-qq", *where, *arguments, "-p", str(pid)]
    tracer = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ends = time.monotonic() + 10
    while "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text():
        if time.monotonic() > ends or tracer.poll() is not None:
            os.kill(pid, signal.SIGKILL)
            break
        time.sleep(0.002)
    os.kill(pid, signal.SIGCONT)
    return tracer


def _waited_for(pid: int) -> int:
    """Return a child's exit code; one that hangs is ended."""
    ends = time.monotonic() + _MOST_S
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > ends:
            os.killpg(pid, signal.SIGKILL)
            ends = float("inf")
        time.sleep(0.005)

"""Processes that take one run folder at once."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

from benchmarks.reliability.faults import Faults
from fedrobust.disk.lock import Held, Lock

__all__ = ["take_and_release", "two_processes"]


def take_and_release(folder: Path, seconds: float, found: multiprocessing.Queue[tuple[int, int]]) -> None:
    """Take and release a run folder; count how often, and how often another process had it as well."""
    taken = both = 0
    mark, ends = folder.with_name("owner"), time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            lock = Lock(folder)
        except Held:
            continue
        taken += 1
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
            time.sleep(0.0005)
            os.unlink(mark)
        except FileExistsError:
            both += 1
        lock.release()
    found.put((taken, both))


def two_processes(faults: Faults) -> None:
    """Let four processes take and release one run folder for some seconds."""
    top = faults.folder / "race"
    top.mkdir()
    context = multiprocessing.get_context("fork")
    found: multiprocessing.Queue[tuple[int, int]] = context.Queue()
    all_of_them = [context.Process(target=take_and_release, args=(top / "run", 8.0, found)) for _ in range(4)]
    for process in all_of_them:
        process.start()
    counts = [found.get(timeout=60) for _ in all_of_them]
    for process in all_of_them:
        process.join()
    taken, both = (sum(count[place] for count in counts) for place in (0, 1))
    for _ in range(taken - both):
        faults.check("two processes on one run folder", True, "")
    for _ in range(both):
        faults.check("two processes on one run folder", False, "two held it at once")

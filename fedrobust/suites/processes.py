"""Cells in processes of this machine: each worker process runs one cell after another."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from typing import cast

from fedrobust.engines.launch import warm_up, without_main_module
from fedrobust.engines.timeouts import may_end_this_process
from fedrobust.settings import Settings
from fedrobust.settings.execution import Execution
from fedrobust.suites.one_cell import run_one
from fedrobust.suites.scheduler import Outcome

__all__ = ["ProcessExecutor", "default_jobs"]


def default_jobs() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class ProcessExecutor:
    """Runs cells in so many processes.

    Parameters
    ----------
    jobs : int
    report : bool
        Whether each run gets a page.
    """

    def __init__(self, jobs: int, report: bool) -> None:
        """Start the processes."""
        self._idle = [_Worker(report) for _ in range(jobs)]
        self._running: dict[Connection, tuple[_Worker, str]] = {}

    @property
    def slots(self) -> int:
        """Return the number of processes."""
        return len(self._idle) + len(self._running)

    def start(self, digest: str, settings: Settings) -> None:
        """Begin a cell in an idle process, the one that ended a cell last: it may have the data."""
        worker = self._idle.pop()
        worker.take(settings)
        self._running[worker.pipe] = worker, digest

    def wait(self) -> Sequence[Outcome]:
        """Wait until at least one cell has ended."""
        outcomes = []
        for pipe in wait(list(self._running)):
            worker, digest = self._running.pop(cast(Connection, pipe))
            outcomes.append(worker.answer(digest))
            self._idle.append(worker)
        return outcomes

    def close(self) -> None:
        """End the processes."""
        for worker in [*self._idle, *(worker for worker, _ in self._running.values())]:
            worker.process.kill()


class _Worker:
    """A process that runs one cell after another."""

    def __init__(self, report: bool) -> None:
        self._report = report
        self._start()

    def _start(self) -> None:
        # The fork server imports torch and Flower once, for all workers. It is asked for as a run's pool is.
        warm_up(Execution(hospitals=2, workers=2))
        context = multiprocessing.get_context("forkserver")
        self.pipe, theirs = context.Pipe()
        # Not a daemon, as those may not have processes of their own; it ends with its parent all the same.
        self.process = context.Process(target=_serve, args=(theirs, list(sys.path), self._report))
        with without_main_module():
            self.process.start()
        theirs.close()

    def take(self, settings: Settings) -> None:
        """Begin a cell, in a fresh process if the last one died."""
        if not self.process.is_alive():
            self._start()
        self.pipe.send(settings)

    def answer(self, digest: str) -> Outcome:
        """Return what became of the cell."""
        try:
            outcome: Outcome = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            error = f"the process that ran the cell died (exit code {self.process.exitcode})"
            return Outcome(digest, error, lost=True)
        return outcome


def _serve(pipe: Connection, path: list[str], report: bool) -> None:
    """Run cells until the pipe closes: what a worker does."""
    # Ctrl-C reaches the whole process group; the parent ends the workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.path[:] = path
    # For what is loaded later, scikit-learn above all: its threads would wait for those of the other cells.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # A hospital that hangs where no alarm reaches it: the cell is tried again, its hospitals in processes
    # of their own.
    may_end_this_process()
    while True:
        try:
            settings: Settings = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(run_one(settings, report=report))


def _end_with_parent() -> None:
    """End this process at once when its parent is gone: a cell that continues would hold its run folder."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

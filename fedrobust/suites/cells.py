"""Many federations side by side: one whole run to a process, no waiting for each other, and nothing done twice.

A cell is the settings of one run. Its hospitals train one after another in the cell's process, on one thread, so
as many cells as cores keep the machine busy without a barrier between rounds or cells. A cell whose finished run
folder exists is not run again; one that was cut off goes on from its last whole round; one that failed is noted
in ``<run folder>.failed.txt``, holds up nobody, and is tried afresh at the next start. Delete a run folder after
a change of the code that its figures depend on.

    found = run_cells({"clean": Settings(data="phantom")}, 2, Path("runs/mine"))
    found["clean"].summary["clean"]["accuracy"]
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeVar, cast

from fedrobust.engines.launch import main_left_alone, warm_up
from fedrobust.engines.timeouts import may_end_this_process
from fedrobust.errors import UserError
from fedrobust.results.files import read_lines
from fedrobust.results.records import ClientMetricsLine
from fedrobust.scenario import RunIdentity, Scenario
from fedrobust.settings import Settings
from fedrobust.settings.execution import Execution
from fedrobust.suites.progress import Lines, Watcher

__all__ = ["Cell", "default_jobs", "failure", "finished", "laid_out", "note_failure", "run_cells", "run_one"]

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Cell:
    """What became of one cell.

    Attributes
    ----------
    settings : Settings
        As they were run: `out` and `workers` are the caller's no more.
    error : str
        Why there is no finished run; empty if there is one.
    """

    settings: Settings
    error: str = ""

    @property
    def folder(self) -> Path:
        """Return where the finished run stands."""
        return RunIdentity.of(self.settings).folder

    @property
    def malicious(self) -> tuple[int, ...]:
        """Return the numbers of the poisoned hospitals."""
        return Scenario.of(self.settings).malicious

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Return what ``manifest.json`` holds."""
        return dict(json.loads((self.folder / "manifest.json").read_text(encoding="utf-8")))

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Return what ``summary.json`` holds."""
        return dict(json.loads((self.folder / "summary.json").read_text(encoding="utf-8")))

    @cached_property
    def rounds(self) -> list[dict[str, Any]]:
        """Return the lines of ``rounds.jsonl``."""
        return _lines(self.folder / "rounds.jsonl")

    @cached_property
    def verdicts(self) -> list[dict[str, Any]]:
        """Return the lines of ``verdicts.jsonl``."""
        return _lines(self.folder / "verdicts.jsonl")

    @cached_property
    def client_metrics(self) -> tuple[ClientMetricsLine, ...]:
        """Return the lines of ``client_metrics.jsonl``."""
        return read_lines(self.folder / "client_metrics.jsonl", ClientMetricsLine)

    @cached_property
    def timings(self) -> list[dict[str, Any]]:
        """Return the lines of ``timings.jsonl``."""
        return _lines(self.folder / "timings.jsonl")


def run_cells(
    cells: Mapping[Key, Settings],
    jobs: int,
    out: Path,
    *,
    watcher: Watcher | None = None,
    report: bool = False,
    seconds: float | None = None,
) -> dict[Key, Cell]:
    """Run all cells that have no finished run yet.

    Parameters
    ----------
    cells : mapping of name to Settings
        Run in this order; of cells with the same settings one is run. Put cells of the same data and seed next
        to each other: a process keeps the last data that it prepared.
    jobs : int
        Processes at work; `default_jobs` gives one for each core.
    out : Path
        Folder for the run folders, in place of the settings' own.
    watcher : Watcher, optional
        Told of the progress; lines on stderr unless given.
    report : bool
        Write a page into each run folder.
    seconds : float, optional
        No cell begins after so many seconds.

    Returns
    -------
    dict
        A `Cell` for each name, in the order of the names.

    Raises
    ------
    UserError
        If `jobs` is not at least 1.
    """
    if jobs < 1:
        raise UserError(f"jobs is {jobs}, but must be at least 1")
    placed, waiting = laid_out(cells, out, watcher := watcher or Lines())
    errors = _work_off(waiting, jobs, watcher, report, seconds)
    return {name: Cell(settings, errors.get(settings.digest(), "")) for name, settings in placed.items()}


def laid_out(
    cells: Mapping[Key, Settings], out: Path, watcher: Watcher
) -> tuple[dict[Key, Settings], dict[str, Settings]]:
    """Return the cells' settings with their place and one worker, and by hash those that have yet to run, each once."""
    placed = {
        name: settings.model_copy(update={"out": str(out), "workers": 1}) for name, settings in cells.items()
    }
    distinct = {settings.digest(): settings for settings in placed.values()}
    waiting = {digest: settings for digest, settings in distinct.items() if not finished(settings)}
    watcher.planned(len(distinct), len(waiting))
    return placed, waiting


def finished(settings: Settings) -> bool:
    """Tell whether a whole run of these settings stands in its folder."""
    return (RunIdentity.of(settings).folder / "summary.json").is_file()


def default_jobs() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _work_off(
    waiting: Mapping[str, Settings], jobs: int, watcher: Watcher, report: bool, seconds: float | None
) -> dict[str, str]:
    """Run the waiting cells; return the error of each that has no finished run."""
    errors: dict[str, str] = {}
    queue, again = deque(waiting.items()), set[str]()
    ends = None if seconds is None else time.monotonic() + seconds
    workers = [_Worker(report) for _ in range(min(jobs, len(queue)))]
    at_work: dict[Connection, _Worker] = {}

    def next_for(worker: _Worker) -> None:
        if not queue or (ends is not None and time.monotonic() > ends):
            return
        worker.take(*queue.popleft())
        at_work[worker.pipe] = worker
        watcher.began(worker.settings)

    try:
        for worker in workers:
            next_for(worker)
        while at_work:
            for pipe in wait(list(at_work)):
                worker = at_work.pop(cast(Connection, pipe))
                error, died = worker.answer()
                if died and worker.digest not in again:
                    # Another process may have had the memory, somebody may have killed the wrong one, or a hospital's code
                    # ended it: with a process of its own that hospital loses its round alone, and the bits are the same.
                    again.add(worker.digest)
                    queue.append((worker.digest, worker.settings.model_copy(update={"workers": 2})))
                    watcher.ended(worker.settings, None, time.monotonic() - worker.since)
                else:
                    note_failure(worker.settings, error)
                    if error:
                        errors[worker.digest] = error
                    watcher.ended(worker.settings, error, time.monotonic() - worker.since)
                next_for(worker)
    finally:
        for worker in workers:
            worker.process.kill()
        watcher.closed()
    for digest, _ in queue:
        errors.setdefault(digest, "")
    return errors


def failure(settings: Settings) -> Path:
    """Return where a failed cell's error is kept: beside where its run folder would stand."""
    folder = RunIdentity.of(settings).folder
    return folder.with_name(folder.name + ".failed.txt")


def note_failure(settings: Settings, error: str) -> None:
    """Keep a failed cell's error, or take an old one away."""
    path = failure(settings)
    if not error:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(error.rstrip() + "\n", encoding="utf-8")


class _Worker:
    """A process that runs one cell after another, and the cell that it has."""

    digest: str
    settings: Settings
    since: float

    def __init__(self, report: bool) -> None:
        self._report = report
        self._start()

    def _start(self) -> None:
        # The fork server imports torch and Flower once, for all workers. It is asked for as a run's pool is.
        warm_up(Execution(2, workers=2))
        context = multiprocessing.get_context("forkserver")
        self.pipe, theirs = context.Pipe()
        # Not a daemon, as those may not have processes of their own; it ends with its parent all the same.
        self.process = context.Process(target=_serve, args=(theirs, list(sys.path), self._report))
        with main_left_alone():
            self.process.start()
        theirs.close()

    def take(self, digest: str, settings: Settings) -> None:
        """Begin a cell, in a fresh process if the last one died."""
        if not self.process.is_alive():
            self._start()
        self.digest, self.settings, self.since = digest, settings, time.monotonic()
        self.pipe.send(settings)

    def answer(self) -> tuple[str, bool]:
        """Return the error that ended the cell, or nothing, and whether the process died of it."""
        try:
            return str(self.pipe.recv()), False
        except (EOFError, OSError):
            self.process.join()
            return f"the process that ran the cell died (exit code {self.process.exitcode})", True


def _serve(pipe: Connection, path: list[str], report: bool) -> None:
    """Run cells until the pipe closes: a worker's whole life."""
    # Ctrl-C reaches the whole process group; the starting process ends the workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.path[:] = path
    # For what is loaded later, scikit-learn above all: its threads would wait for those of the other cells.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # A hospital that hangs where no alarm reaches it: the cell is tried again, its hospitals in processes of their own.
    may_end_this_process()
    while True:
        try:
            settings: Settings = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(run_one(settings, report=report))


def _end_with_parent() -> None:
    """End this process at once when its parent is gone: a cell that goes on would hold its run folder."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def run_one(settings: Settings, *, report: bool = False) -> str:
    """Run one cell in this process; return what went wrong, or nothing."""
    from fedrobust.flower.client_app import forget_hospitals
    from fedrobust.runtime.runner import run

    try:
        with warnings.catch_warnings():
            # That an attack changed nothing stands in the summary; it need not be said between lines of progress.
            warnings.simplefilter("ignore", UserWarning)
            # What failed may have been put right since, at any round: then no round of it is kept.
            run(settings, resume=not failure(settings).exists(), report=report)
    except UserError as error:
        return str(error)
    except (Exception, SystemExit):  # noqa: BLE001 - whatever a cell does costs nobody but itself
        return traceback.format_exc()
    finally:
        # A process keeps the hospitals of its run; here the next run has others.
        forget_hospitals()
    return ""

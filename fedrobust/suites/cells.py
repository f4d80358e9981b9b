"""Many runs side by side: one run to a process, no waiting for each other, and nothing computed twice.

A cell is the settings of one run. Its hospitals train one after another in the cell's process, on one
thread, so as many cells as cores keep the machine busy without a barrier between rounds or cells. A cell
whose finished run folder still fits is not run again (see `CellStore`); one that was cut off resumes after
its last complete round; one that failed is noted in ``<run folder>.failed.txt``, holds up no other, and is
tried afresh at the next start.

    found = run_cells({"clean": Settings(data="phantom")}, 2, Path("runs/mine"))
    found["clean"].run.summary.clean.accuracy
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from fedrobust.errors import UserError
from fedrobust.results.finished_run import FinishedRun
from fedrobust.scenario import RunIdentity
from fedrobust.settings import Settings
from fedrobust.suites.processes import ProcessExecutor, default_jobs
from fedrobust.suites.progress import Lines, Watcher
from fedrobust.suites.scheduler import Executor, work_off
from fedrobust.suites.store import CellStore

__all__ = ["Cell", "default_jobs", "run_cells"]

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Cell:
    """What became of one cell.

    Attributes
    ----------
    settings : Settings
        As they were run: `out` and `workers` are the caller's no more.
    error : str
        Why there is no finished run; empty if there is one, or the cell was not begun.
    """

    settings: Settings
    error: str = ""

    @cached_property
    def folder(self) -> Path:
        """Return where the finished run stands."""
        return RunIdentity.of(self.settings).folder

    @cached_property
    def run(self) -> FinishedRun:
        """Return the finished run: the one record that tables, pages and benchmarks read."""
        return FinishedRun(self.folder)


def run_cells(
    cells: Mapping[Key, Settings],
    jobs: int | None,
    out: Path,
    *,
    ray_address: str | None = None,
    watcher: Watcher | None = None,
    report: bool = False,
    seconds: float | None = None,
    store: CellStore | None = None,
) -> dict[Key, Cell]:
    """Run all cells that have no finished run yet, or none that still fits.

    Parameters
    ----------
    cells : mapping of name to Settings
        Run in this order; of cells with the same settings one is run. Put cells of the same data and seed
        next to each other: a process keeps the last data that it prepared.
    jobs : int or None
        Cells at once; None gives one for each core, or for each CPU of the cluster.
    out : Path
        Folder for the run folders, in place of the settings' own.
    ray_address : str, optional
        ``host:port`` of a running Ray cluster that runs the cells, or ``auto``; see `RayExecutor`.
    watcher : Watcher, optional
        Notified of the progress; lines on stderr unless given.
    report : bool
        Write a page into each run folder.
    seconds : float, optional
        No cell begins after so many seconds.
    store : CellStore, optional
        One that has read the data already.

    Returns
    -------
    dict
        A `Cell` for each name, in the order of the names.

    Raises
    ------
    UserError
        If `jobs` is not at least 1, or the data cannot be read.
    """
    if jobs is not None and jobs < 1:
        raise UserError(f"jobs is {jobs}, but must be at least 1")
    watcher, store = watcher or Lines(), store or CellStore()
    placed = {
        name: settings.model_copy(update={"out": str(out), "workers": 1}) for name, settings in cells.items()
    }
    distinct = {settings.digest(): settings for settings in placed.values()}
    waiting = {digest: settings for digest, settings in distinct.items() if not store.finished(settings)}
    changes = {digest: change for digest, settings in waiting.items() if (change := store.change(settings))}
    watcher.planned(len(distinct), len(waiting), list(changes.values()))
    errors: dict[str, str] = {}
    try:
        for settings in waiting.values():
            store.drop_unfit(settings)
        if waiting:
            executor = _executor(jobs, ray_address, len(waiting), report)
            errors = work_off(waiting, executor, watcher, seconds, store)
    finally:
        watcher.closed()
    return {name: Cell(settings, errors.get(settings.digest(), "")) for name, settings in placed.items()}


def _executor(jobs: int | None, ray_address: str | None, cells: int, report: bool) -> Executor:
    if ray_address is not None:
        from fedrobust.suites.cluster import RayExecutor

        return RayExecutor(ray_address, jobs, report)
    return ProcessExecutor(min(jobs or default_jobs(), cells), report)

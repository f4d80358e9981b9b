"""The work of `python -m fedrobust.benchmark`: from a suite's name to its table and page."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedrobust.errors import UserError, nearest
from fedrobust.evaluation.metrics import METRICS, is_utility
from fedrobust.results.checksums import replace_checked
from fedrobust.results.suite_records import SuiteCosts, SuiteResults
from fedrobust.settings import EXECUTION_SETTINGS, Settings
from fedrobust.suites.cells import Cell, default_jobs, run_cells
from fedrobust.suites.plan import Planned, chosen, distinct, plan
from fedrobust.suites.progress import Bar, Lines, Silent, Watcher, span
from fedrobust.suites.store import CellStore, failure, forget
from fedrobust.suites.suite import Suite, Table
from fedrobust.suites.suite_files import is_built_in, load_suite
from fedrobust.suites.text import several

__all__ = ["DryRun", "Outcome", "Request", "benchmark", "check_metric", "describe", "dry_run_text"]

#: Where the runs of all suites stand, beside the suites' own folders: what two suites share is run once.
CELLS = "cells"


@dataclass(frozen=True)
class Outcome:
    """What a suite came to.

    Attributes
    ----------
    folder : Path
        Holds suite.json, costs.json, the suite's definition, table.csv and report.html.
    results : SuiteResults
    costs : SuiteCosts
        What the first two hold.
    metric : str
        By which the suite ranks.
    failed : int
        Runs that have failed.
    """

    folder: Path
    results: SuiteResults
    costs: SuiteCosts
    metric: str
    failed: int


@dataclass(frozen=True)
class Request:
    """What a user asks of a suite; see the command's flags."""

    name: str
    out: Path
    execution_settings: Table
    overrides: Table
    seeds: tuple[int, ...] | None = None
    only: tuple[str, ...] = ()
    jobs: int | None = None
    ray_address: str | None = None
    budget_minutes: float | None = None
    fresh: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class DryRun:
    """What a command would run.

    Attributes
    ----------
    suite : Suite
    asked : list of Planned
        The cells that are asked for.
    runs : dict of Settings
        Their runs and those of their clean baselines, by the hash of the settings.
    finished : int
        How many of the runs are finished and still fit.
    seconds : float
        About how long the others take.
    """

    suite: Suite
    asked: list[Planned]
    runs: dict[str, Settings]
    finished: int
    seconds: float


def benchmark(request: Request) -> Outcome:
    """Run what is asked for of a suite and write the results of all that is finished.

    Raises
    ------
    UserError
        If the suite file is wrong, or the data cannot be read; nothing has been run then.
    """
    suite, cells = _planned(request)
    asked, store = chosen(cells, request.only), CellStore()
    # Before anything else, and for finished cells as well: their numbers are those of certain data.
    for cell in asked:
        store.check_data(cell.settings)
    folder = _folder(request, suite)
    if request.fresh:
        for settings in distinct(asked).values():
            forget(settings)
    errors = {cell.settings.digest(): cell.error for cell in _ran(request, suite, asked, store).values()}
    return _write(request, suite, cells, errors, folder, store)


def describe(request: Request) -> DryRun:
    """Return what a command would run, and about how long it takes.

    Raises
    ------
    UserError
        If the suite file is wrong, or the data cannot be read.
    """
    from fedrobust.suites.estimate import estimate

    suite, cells = _planned(request)
    asked, store = chosen(cells, request.only), CellStore()
    runs = distinct(asked)
    done = sum(store.finished(settings) for settings in runs.values())
    return DryRun(suite, asked, runs, done, estimate(runs, request.jobs or default_jobs(), store))


def _write(
    request: Request,
    suite: Suite,
    cells: Sequence[Planned],
    errors: Mapping[str, str],
    folder: Path,
    store: CellStore,
) -> Outcome:
    """Write results, costs, table and page of a suite's finished runs, those of earlier commands included."""
    from fedrobust.suites.export import csv_text
    from fedrobust.suites.results import cost_table, results

    everything = distinct(cells)
    runs = {
        digest: Cell(settings) if store.finished(settings) else None
        for digest, settings in everything.items()
    }
    gone = {digest: settings for digest, settings in everything.items() if runs[digest] is None}
    reasons = {
        digest: reason
        for digest, settings in gone.items()
        if (reason := errors[digest] if digest in errors else failure(settings))
    }
    found = results(suite, cells, runs, reasons, _command(request, suite, cells), folder)
    costs = cost_table(cells, runs)
    texts = {
        "suite.json": found.model_dump_json(indent=1) + "\n",
        "costs.json": costs.model_dump_json(indent=1) + "\n",
        f"{suite.name}.toml": found.definition,
        "table.csv": csv_text(found),
    }
    try:
        replace_checked(folder, {name: text.encode() for name, text in texts.items()})
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}); the finished runs are kept: the same command "
            "writes their results"
        ) from None
    _pages(folder, [cell for cell in runs.values() if cell is not None])
    return Outcome(folder, found, costs, suite.metric, len(reasons))


def _command(request: Request, suite: Suite, cells: Sequence[Planned]) -> str:
    """Return the command that reproduces the results beside the suite's definition, without folder names."""
    words = ["python", "-m", "fedrobust.benchmark"]
    words.append(suite.name if is_built_in(request.name) else f"{suite.name}.toml")
    kept = {key: v for key, v in request.overrides.items() if key.replace("-", "_") not in EXECUTION_SETTINGS}
    words += [f"--set={key}={value}" for key, value in kept.items()]
    if request.seeds:
        words.append(f"--seeds={','.join(map(str, request.seeds))}")
    if any(cell.settings.data_root is not None for cell in cells):
        words.append("--data-root=DATA")
    return shlex.join(words)


def check_metric(name: str, where: str) -> None:
    """Raise `UserError` unless there is such a metric."""
    utility = is_utility(name) or is_utility(name, "utility_gain")
    if name not in METRICS and not utility and not name.startswith("sensitivity:") and "@" not in name:
        raise UserError(f"{where}: there is no metric '{name}'; {nearest(name, METRICS)}")


def _planned(request: Request) -> tuple[Suite, list[Planned]]:
    suite = load_suite(request.name, request.overrides, request.seeds)
    check_metric(suite.metric, f"suite {suite.name}")
    return suite, plan(suite, {**request.execution_settings, "out": str(request.out / CELLS), "workers": 1})


def _folder(request: Request, suite: Suite) -> Path:
    if suite.name == CELLS:
        raise UserError(
            f"a suite cannot be called '{CELLS}': the runs of all suites stand in a folder of that name"
        )
    folder = request.out / suite.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out '{request.out}' cannot be written ({error.strerror}); give another") from None
    return folder.absolute()


def _ran(request: Request, suite: Suite, asked: Sequence[Planned], store: CellStore) -> dict[str, Cell]:
    minutes = request.budget_minutes or suite.budget_minutes
    return run_cells(
        distinct(asked),
        request.jobs,
        (request.out / CELLS).absolute(),
        ray_address=request.ray_address,
        watcher=_watcher(request.quiet),
        report=True,
        seconds=None if minutes is None else 60 * minutes,
        store=store,
    )


def _watcher(quiet: bool) -> Watcher:
    if quiet:
        return Silent()
    return Bar() if sys.stderr.isatty() else Lines()


def _pages(folder: Path, cells: Sequence[Cell]) -> None:
    """Write the suite's page, and those of runs that have none yet; what goes wrong here costs no metric."""
    try:
        from fedrobust.reports.writing import write_report

        for cell in cells:
            if not (cell.folder / "report.html").is_file():
                write_report(cell.folder)
        write_report(folder)
    except Exception as error:  # noqa: BLE001 - the table stands, and 'fedrobust report' can be tried again
        warnings.warn(f"{folder}: the page could not be written ({error})", UserWarning, stacklevel=2)


def dry_run_text(dry: DryRun, jobs: int) -> str:
    """Return a dry run in a few lines."""
    suite, total = dry.suite, len(dry.runs)
    baselines = total - len({cell.settings.digest() for cell in dry.asked})
    lines = [f"{suite.name}: {suite.title}" if suite.title else suite.name]
    lines += [f"  {name}: {', '.join(axis)}" for name, axis in suite.every_axis().items()]
    lines.append(f"  seeds: {', '.join(map(str, suite.seeds))}")
    beside = f" and {several(baselines, 'clean baseline')}" if baselines else ""
    lines.append(f"{several(len(dry.asked), 'cell')}{beside}; {dry.finished} of {total} runs finished")
    if dry.finished < total:
        lines.append(f"about {span(dry.seconds)} for the others, {jobs} side by side")
    return "\n".join(lines)

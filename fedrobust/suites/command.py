"""The work of `python -m fedrobust.benchmark`: from a suite's name to its table and page."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedrobust.errors import UserError, nearest
from fedrobust.evaluation.metrics import METRICS
from fedrobust.results.files import write_text
from fedrobust.results.suite_records import SuiteCosts, SuiteResults
from fedrobust.settings import Settings
from fedrobust.suites.cells import Cell, default_jobs, failure, finished, run_cells
from fedrobust.suites.plan import Planned, chosen, distinct, plan
from fedrobust.suites.progress import Bar, Lines, Silent, Watcher, span
from fedrobust.suites.suite import Suite, load_suite

__all__ = ["Outcome", "Request", "benchmark", "check_metric", "describe", "saying"]

#: Where the runs of all suites stand, beside the suites' own folders: what two suites share is run once.
CELLS = "cells"


@dataclass(frozen=True)
class Outcome:
    """What a suite came to.

    Attributes
    ----------
    folder : Path
        Holds suite.json, costs.json, table.csv and report.html.
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
    execution_settings: Mapping[str, Any]
    overrides: Mapping[str, Any]
    seeds: tuple[int, ...] | None = None
    only: tuple[str, ...] = ()
    jobs: int | None = None
    ray_address: str | None = None
    budget_minutes: float | None = None
    fresh: bool = False
    quiet: bool = False

    @property
    def command(self) -> str:
        """Return the command that makes the same results, without what does not bear on them."""
        # No folder of this machine in what others read.
        name = Path(self.name).name if Path(self.name).is_absolute() else self.name
        words = ["python", "-m", "fedrobust.benchmark", name]
        words += [f"--set={key}={value}" for key, value in self.overrides.items()]
        if self.seeds:
            words += [f"--seeds={','.join(map(str, self.seeds))}"]
        return shlex.join(words)


def benchmark(request: Request) -> Outcome:
    """Run what is asked for of a suite and write the results of all that is finished.

    Raises
    ------
    UserError
        If the suite does not say what a suite says; nothing has been run then.
    """
    suite, cells = _planned(request)
    asked = chosen(cells, request.only)
    _check_data(asked)
    folder = _folder(request, suite)
    if request.fresh:
        _forget(asked)
    ran = _ran(request, suite, asked)
    return _write(request, suite, cells, ran, folder)


def describe(request: Request) -> tuple[Suite, list[Planned], dict[str, Settings], float]:
    """Return a suite, the cells that are asked for, their runs, and about how many seconds those take: a dry run."""
    from fedrobust.suites.estimate import estimate

    suite, cells = _planned(request)
    asked = chosen(cells, request.only)
    runs = distinct(asked)
    return suite, asked, runs, estimate(runs, request.jobs or default_jobs())


def _write(
    request: Request, suite: Suite, cells: Sequence[Planned], ran: Mapping[str, Cell], folder: Path
) -> Outcome:
    """Write results, costs, table and page of all finished runs of a suite, whether this command ran them or not."""
    from fedrobust.suites.export import write_csv
    from fedrobust.suites.results import cost_table, results

    everything = distinct(cells)
    whole = {digest: Cell(settings) for digest, settings in everything.items() if finished(settings)}
    errors = {digest: _error(settings, ran) for digest, settings in everything.items() if digest not in whole}
    runs: dict[str, Cell | None] = {digest: whole.get(digest) for digest in everything}
    found = results(suite, cells, runs, {k: e for k, e in errors.items() if e}, request.command, folder)
    costs = cost_table(cells, runs)
    write_text(folder / "suite.json", found.model_dump_json(indent=1) + "\n")
    write_text(folder / "costs.json", costs.model_dump_json(indent=1) + "\n")
    write_text(folder / "suite.toml", found.definition)
    aside = folder / ".table.aside"
    write_csv(found, aside)
    aside.replace(folder / "table.csv")
    _pages(folder, whole)
    return Outcome(folder, found, costs, suite.metric, sum(1 for error in errors.values() if error))


def check_metric(name: str, where: str) -> None:
    """Raise `UserError` unless there is such a metric."""
    if name not in METRICS and not name.startswith("sensitivity:"):
        raise UserError(f"{where}: there is no metric '{name}'; {nearest(name, METRICS)}")


def _planned(request: Request) -> tuple[Suite, list[Planned]]:
    suite = load_suite(request.name, request.overrides, request.seeds)
    check_metric(suite.metric, f"suite {suite.name}")
    return suite, plan(suite, {**request.execution_settings, "out": str(request.out / CELLS), "workers": 1})


def _check_data(asked: Sequence[Planned]) -> None:
    """Read what is left to be run on, once for each source: a wrong folder shall not fail one cell after another."""
    from fedrobust.data.sources import load_records
    from fedrobust.scenario import Scenario

    seen: set[tuple[object, ...]] = set()
    for settings in distinct(asked).values():
        key = (settings.data, settings.data_root, settings.image_size)
        if key not in seen and not finished(settings):
            seen.add(key)
            load_records(Scenario.of(settings).data)


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


def _ran(request: Request, suite: Suite, asked: Sequence[Planned]) -> dict[str, Cell]:
    runs, out = distinct(asked), (request.out / CELLS).absolute()
    minutes = request.budget_minutes or suite.budget_minutes
    common: dict[str, Any] = {
        "watcher": _watcher(request.quiet),
        "report": True,
        "seconds": None if minutes is None else 60 * minutes,
    }
    if request.ray_address is not None:
        from fedrobust.suites.cluster import run_cells_on_ray

        return run_cells_on_ray(runs, request.ray_address, out, jobs=request.jobs, **common)
    return run_cells(runs, request.jobs or default_jobs(), out, **common)


def _watcher(quiet: bool) -> Watcher:
    if quiet:
        return Silent()
    return Bar() if sys.stderr.isatty() else Lines()


def _forget(asked: Sequence[Planned]) -> None:
    """Take finished runs away, so that they are made anew."""
    import shutil

    for settings in distinct(asked).values():
        folder = Cell(settings).folder
        for path in (folder, folder.with_name(folder.name + ".partial")):
            shutil.rmtree(path, ignore_errors=True)
        failure(settings).unlink(missing_ok=True)


def _error(settings: Settings, ran: Mapping[str, Cell]) -> str:
    """Return why a run has failed, now or earlier; nothing if it was not tried."""
    cell = ran.get(settings.digest())
    if cell is not None:
        return cell.error
    path = failure(settings)
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _pages(folder: Path, whole: Mapping[str, Cell]) -> None:
    """Write the suite's page, and those of runs that have none yet; what goes wrong here costs no figure."""
    try:
        from fedrobust.report import write_report

        for cell in whole.values():
            if not (cell.folder / "report.html").is_file():
                write_report(cell.folder)
        write_report(folder)
    except Exception as error:  # noqa: BLE001 - the table stands, and 'fedrobust report' can be tried again
        warnings.warn(f"{folder}: the page could not be written ({error})", UserWarning, stacklevel=2)


def saying(
    suite: Suite, asked: Sequence[Planned], runs: Mapping[str, Settings], seconds: float, jobs: int
) -> str:
    """Return a dry run in a few lines."""
    done = sum(finished(settings) for settings in runs.values())
    baselines = len(runs) - len({cell.settings.digest() for cell in asked})
    lines = [f"{suite.name}: {suite.title}" if suite.title else suite.name]
    lines += [f"  {name}: {', '.join(axis)}" for name, axis in suite.every_axis().items()]
    lines.append(f"  seeds: {', '.join(map(str, suite.seeds))}")
    beside = f" and {baselines} clean baselines" if baselines else ""
    cells = "1 cell" if len(asked) == 1 else f"{len(asked)} cells"
    lines.append(f"{cells}{beside}; {done} of {len(runs)} runs finished")
    if done < len(runs):
        lines.append(f"about {span(seconds)} for the others, {jobs} side by side")
    return "\n".join(lines)

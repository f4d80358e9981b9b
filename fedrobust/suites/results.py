"""A suite's results from its finished cells: ``suite.json``, the same bytes for the same runs, and ``costs.json``."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedrobust.evaluation.metrics import METRICS, metric_of
from fedrobust.evaluation.statistics import bootstrap_interval
from fedrobust.results.files import plain
from fedrobust.settings import EXECUTION_SETTINGS, Settings
from fedrobust.suites.caveats import caveats_of, is_bound, usual
from fedrobust.suites.cells import Cell
from fedrobust.suites.compare import FEW, attack_budget_of, comparisons, ranking, reference_of
from fedrobust.suites.metrics import costs, figures, mean_known
from fedrobust.suites.plan import Planned
from fedrobust.suites.suite import Suite

__all__ = ["cost_table", "results", "write_whole"]

#: A cell's finished run; None where there is none.
Runs = Mapping[str, Cell | None]
Figures = dict[str, float | None]


def results(
    suite: Suite, cells: Sequence[Planned], runs: Runs, errors: Mapping[str, str], command: str, out: Path
) -> dict[str, Any]:
    """Return what ``suite.json`` holds.

    Parameters
    ----------
    suite : Suite
    cells : sequence of Planned
        All of the suite's.
    runs : mapping of str to Cell or None
        By the hash of the settings.
    errors : mapping of str to str
        Why a run has failed, by the hash.
    command : str
        What makes these results again.
    out : Path
        The suite's folder; runs are named relative to it.
    """
    axes = suite.every_axis()
    measured = {
        (cell.key, cell.seed): figures(run, _run(runs, cell.baseline))
        for cell in cells
        if (run := _run(runs, cell.settings)) is not None
    }
    by_row: dict[tuple[str, ...], list[Planned]] = defaultdict(list)
    for cell in cells:
        by_row[cell.key].append(cell)
    common = usual([run for cell in cells if (run := _run(runs, cell.settings)) is not None])
    rows = [_row(group, measured, runs, errors, common, out) for group in by_row.values()]
    keys = [
        key for key in _metric_order(rows) if any(row["metrics"][key]["mean"] is not None for row in rows)
    ]
    for row in rows:
        row["metrics"] = {key: row["metrics"][key] for key in keys}
    reference = reference_of(suite, cells)
    content = {
        "name": suite.name,
        "title": suite.title or suite.name,
        "about": suite.about,
        "command": command,
        "versions": common["versions"],
        "settings": {k: v for k, v in _base(cells).items() if k not in EXECUTION_SETTINGS | {"seed"}},
        "seeds": list(suite.seeds),
        "axes": [{"name": name, "labels": list(axis)} for name, axis in axes.items()],
        "method_axis": suite.compared_axis,
        "reference": reference,
        "metric": suite.metric,
        "metrics": [_metric(key) for key in keys],
        "rows": rows,
        "comparisons": comparisons(suite, by_row, measured, reference, rows, keys),
        "ranking": ranking(suite, rows),
        "attack_budget": attack_budget_of(suite, rows),
        "missing": [_gap(cell, cell.settings, errors) for cell in cells if _run(runs, cell.settings) is None],
        "missing_baselines": [
            _gap(cell, cell.baseline, errors)
            for cell in cells
            if cell.baseline is not None and _run(runs, cell.baseline) is None
        ],
    }
    return dict(plain({**content, "notes": _notes(suite, content, common)}))


def cost_table(cells: Sequence[Planned], runs: Runs) -> dict[str, Any]:
    """Return what ``costs.json`` holds: means over the seeds of each row, memory the most of any."""
    by_row: dict[tuple[str, ...], list[Planned]] = defaultdict(list)
    for cell in cells:
        by_row[cell.key].append(cell)
    rows = []
    for group in by_row.values():
        known = [costs(run) for cell in group if (run := _run(runs, cell.settings)) is not None]
        memory = [cost["defence_mib"] for cost in known if cost["defence_mib"] is not None]
        rows.append(
            {
                "labels": dict(group[0].labels),
                **{key: mean_known(cost[key] for cost in known) for key in ("seconds", "aggregation_s")},
                "defence_mib": max(memory, default=None),
            }
        )
    return {"rows": rows}


def write_whole(path: Path, text: str) -> None:
    """Write a file aside and put it in place, so that it is never half of one."""
    aside = path.with_name(f".{path.name}.aside")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)


def _run(runs: Runs, settings: Any) -> Cell | None:
    return None if settings is None else runs.get(settings.digest())


def _gap(cell: Planned, settings: Settings, errors: Mapping[str, str]) -> dict[str, Any]:
    """Return which run is missing, and why."""
    error = _short(errors.get(settings.digest()))
    return {"labels": dict(cell.labels), "seed": cell.seed, "error": error}


def _row(
    group: Sequence[Planned],
    measured: Mapping[Any, Figures],
    runs: Runs,
    errors: Mapping[str, str],
    common: Mapping[str, Any],
    out: Path,
) -> dict[str, Any]:
    done = [cell for cell in group if (cell.key, cell.seed) in measured]
    tables = [measured[cell.key, cell.seed] for cell in done]
    keys = dict.fromkeys(key for table in tables for key in table)
    return {
        "labels": dict(group[0].labels),
        "seeds": [cell.seed for cell in done],
        "metrics": defaultdict(
            lambda: _summed([]), {key: _summed([table.get(key) for table in tables]) for key in keys}
        ),
        "caveats": caveats_of(group, done, runs, common),
        "cells": [
            {
                "seed": cell.seed,
                "run": _relative(run, out) if (run := _run(runs, cell.settings)) else None,
                "error": _short(errors.get(cell.settings.digest())),
            }
            for cell in group
        ],
    }


def _summed(values: Sequence[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    low, high = (len(known) >= FEW and bootstrap_interval(known)) or (None, None)
    return {"mean": mean_known(known), "low": low, "high": high, "values": list(values)}


def _metric_order(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    found = dict.fromkeys(key for row in rows for key in row["metrics"])
    return [key for key in METRICS if key in found] + [key for key in found if key not in METRICS]


def _metric(key: str) -> dict[str, Any]:
    found = metric_of(key)
    about = {"name": found.name, "better": found.better, "unit": found.unit, "about": found.about}
    return {"key": key, **about}


def _notes(suite: Suite, content: Mapping[str, Any], common: Mapping[str, Any]) -> list[str]:
    notes = []
    seeds = len(suite.seeds)
    if seeds < FEW:
        notes.append(f"{_many(seeds, 'seed')}: no intervals and no tests; take three or more.")
    elif content["comparisons"]:
        notes.append(
            f"{seeds} seeds: a paired test over them cannot give a p below {2.0 ** (1 - seeds):.3g}, "
            f"before Holm's correction."
        )
    if common["synthetic"]:
        notes.append("Synthetic images: these figures say nothing of patients.")
    missing = content["missing"]
    if missing:
        failed = sum(line["error"] is not None for line in missing)
        notes.append(
            f"{_many(len(missing), 'cell')} missing, {failed} of them failed; the same command tries them."
        )
    if content["missing_baselines"]:
        notes.append(
            f"{_many(len(content['missing_baselines']), 'cell')} without a clean baseline: what the attack costs there is not known."
        )
    if any(is_bound(row) for row in content["rows"]):
        notes.append(
            "The oracle is told who is malicious: a bound, not a defence; it has no rank and no test."
        )
    differing = [
        row for row in content["rows"] if any(caveat.startswith("other data") for caveat in row["caveats"])
    ]
    if differing:
        notes.append("Some rows were made on other data and cannot be compared; they are marked.")
    return notes


def _many(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _base(cells: Sequence[Planned]) -> dict[str, Any]:
    """Return the settings that all cells share."""
    first, *others = (cell.settings.model_dump() for cell in cells)
    return {key: value for key, value in first.items() if all(other[key] == value for other in others)}


def _relative(run: Cell, out: Path) -> str:
    return Path(os.path.relpath(run.folder, out)).as_posix()


def _short(error: str | None) -> str | None:
    return error.strip().splitlines()[-1] if error else None

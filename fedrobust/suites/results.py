"""A suite's results from its finished cells: ``suite.json``, the same bytes for the same runs, and ``costs.json``."""

from __future__ import annotations

import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from fedrobust.config import CARRIERS
from fedrobust.evaluation.statistics import bootstrap_interval, holm, ranks, sign_flip_test
from fedrobust.results.folder import plain
from fedrobust.suites.cells import Cell
from fedrobust.suites.figures import METRICS, costs, figures
from fedrobust.suites.plan import Planned
from fedrobust.suites.suite import Suite

__all__ = ["cost_table", "results", "write_whole"]

#: Metrics whose differences to the reference are tested; Holm's correction runs over the table of each.
COMPARED = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "auroc",
    "worst_class",
    "worst_hospital",
    "drop",
    "twin_loss",
)
FEW = 3

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
        (cell.key, cell.seed): figures(run, _run(runs, cell.twin))
        for cell in cells
        if (run := _run(runs, cell.settings)) is not None
    }
    by_row: dict[tuple[str, ...], list[Planned]] = defaultdict(list)
    for cell in cells:
        by_row[cell.key].append(cell)
    usual = _usual([run for cell in cells if (run := _run(runs, cell.settings)) is not None])
    rows = [_row(group, measured, runs, errors, usual, out) for group in by_row.values()]
    keys = [
        key for key in _metric_order(rows) if any(row["metrics"][key]["mean"] is not None for row in rows)
    ]
    for row in rows:
        row["metrics"] = {key: row["metrics"][key] for key in keys}
    reference = _reference(suite, cells)
    content = {
        "name": suite.name,
        "title": suite.title or suite.name,
        "about": suite.about,
        "command": command,
        "versions": usual["versions"],
        "settings": {k: v for k, v in _base(cells).items() if k not in CARRIERS | {"seed"}},
        "seeds": list(suite.seeds),
        "axes": [{"name": name, "labels": list(axis)} for name, axis in axes.items()],
        "contenders": suite.contender_axis,
        "reference": reference,
        "metrics": [_metric(key) for key in keys],
        "rows": rows,
        "comparisons": _comparisons(suite, by_row, measured, reference, rows, keys),
        "ranking": _ranking(suite, rows),
        "dose": _dose(suite, rows),
        "missing": [
            {
                "labels": dict(cell.labels),
                "seed": cell.seed,
                "error": _short(errors.get(cell.settings.digest())),
            }
            for cell in cells
            if _run(runs, cell.settings) is None
        ],
    }
    return dict(plain({**content, "notes": _notes(suite, content, usual)}))


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
                **{key: _mean(cost[key] for cost in known) for key in ("seconds", "aggregation_s")},
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


def _row(
    group: Sequence[Planned],
    measured: Mapping[Any, Figures],
    runs: Runs,
    errors: Mapping[str, str],
    usual: Mapping[str, Any],
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
        "marks": _marks(group, done, runs, usual),
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
    return {"mean": fmean(known) if known else None, "low": low, "high": high, "values": list(values)}


def _marks(
    group: Sequence[Planned], done: Sequence[Planned], runs: Runs, usual: Mapping[str, Any]
) -> list[str]:
    """Return what a reader must know of a row before comparing it with others."""
    marks: dict[str, None] = {}
    for cell in done:
        run = runs[cell.settings.digest()]
        assert run is not None
        if run.manifest["oracle"]:
            marks["oracle: is told who is malicious"] = None
        if _data_of(run) != usual["data"].get(_data_key(run)):
            marks["other data than most: the hash differs"] = None
        other = {k: v for k, v in _versions(run).items() if v != usual["versions"].get(k)}
        if other:
            marks["made with " + ", ".join(f"{name} {version}" for name, version in other.items())] = None
        marks |= {f"{name} changed nothing (seed {cell.seed})": None for name in run.summary["idle_attacks"]}
        if run.summary["faults"]:
            marks[f"{run.summary['faults']} lost rounds (seed {cell.seed})"] = None
        if run.summary["synthetic"] and not usual["synthetic"]:
            marks["synthetic images"] = None
    if done and len(done) < len(group):
        marks[f"{len(done)} of {len(group)} seeds"] = None
    return list(marks)


def _usual(done: Sequence[Cell]) -> dict[str, Any]:
    """Return what most runs were made with: the data by their settings, and the versions."""
    hashes: dict[str, Counter[str]] = defaultdict(Counter)
    versions: dict[str, Counter[str]] = defaultdict(Counter)
    for cell in done:
        hashes[_data_key(cell)][_data_of(cell)] += 1
        for name, version in _versions(cell).items():
            versions[name][version] += 1
    return {
        "data": {key: counts.most_common(1)[0][0] for key, counts in hashes.items()},
        "versions": {name: counts.most_common(1)[0][0] for name, counts in versions.items()},
        "synthetic": bool(done) and all(cell.summary["synthetic"] for cell in done),
    }


def _data_key(cell: Cell) -> str:
    return json.dumps([getattr(cell.settings, key) for key in ("data", "image_size", "split")])


def _data_of(cell: Cell) -> str:
    return str(cell.manifest["data"]["sha256"])


def _versions(cell: Cell) -> dict[str, str]:
    return {name: str(version) for name, version in cell.manifest["versions"].items()}


def _metric_order(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    found = dict.fromkeys(key for row in rows for key in row["metrics"])
    return [key for key in METRICS if key in found] + [key for key in found if key not in METRICS]


def _metric(key: str) -> dict[str, Any]:
    if key in METRICS:
        name, better, unit, about = METRICS[key]
    else:
        name = key.replace(":", ": ")
        better, unit, about = "higher", "share", "Share of this class's test images that are found."
    return {"key": key, "name": name, "better": better, "unit": unit, "about": about}


def _reference(suite: Suite, cells: Sequence[Planned]) -> str | None:
    """Return the label to compare with: the file's, or the one that is plain FedAvg, or the first."""
    axis = suite.contender_axis
    if suite.reference or not axis:
        return suite.reference or None
    labels = list(dict.fromkeys(cell.labels[axis] for cell in cells))
    plain_mean = [cell.labels[axis] for cell in cells if cell.settings.strategy == "fedavg"]
    always = [
        label for label in labels if plain_mean.count(label) == sum(c.labels[axis] == label for c in cells)
    ]
    return (always or labels)[0] if len(labels) > 1 else None


def _condition(suite: Suite, labels: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(label for axis, label in labels.items() if axis != suite.contender_axis)


def _comparisons(
    suite: Suite,
    by_row: Mapping[tuple[str, ...], Sequence[Planned]],
    measured: Mapping[Any, Figures],
    reference: str | None,
    rows: Sequence[Mapping[str, Any]],
    keys: Sequence[str],
) -> list[dict[str, Any]]:
    """Return the differences to the reference, paired by seed; an oracle's is shown but not tested."""
    if reference is None:
        return []
    found = []
    for metric in (key for key in COMPARED if key in keys):
        table = []
        for row in rows:
            labels = row["labels"]
            if labels[suite.contender_axis] == reference:
                continue
            other = tuple({**labels, suite.contender_axis: reference}.values())
            key = tuple(labels.values())
            differences = [
                ours - theirs
                for cell in by_row[key]
                if (ours := measured.get((key, cell.seed), {}).get(metric)) is not None
                and (theirs := measured.get((other, cell.seed), {}).get(metric)) is not None
            ]
            if differences:
                table.append(_difference(labels, metric, reference, differences, _is_bound(row)))
        for line, adjusted in zip(table, holm([line["p"] for line in table]), strict=True):
            line["p_holm"] = adjusted
        found += table
    return found


def _difference(
    labels: Mapping[str, str], metric: str, against: str, differences: Sequence[float], bound: bool
) -> dict[str, Any]:
    enough = len(differences) >= FEW
    low, high = (enough and bootstrap_interval(differences)) or (None, None)
    return {
        "labels": dict(labels),
        "metric": metric,
        "against": against,
        "difference": fmean(differences),
        "low": low,
        "high": high,
        "p": sign_flip_test(differences) if enough and not bound else None,
        "p_holm": None,
        "seeds": len(differences),
    }


def _is_bound(row: Mapping[str, Any]) -> bool:
    return any(mark.startswith("oracle") for mark in row["marks"])


def _ranking(suite: Suite, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each contender's place by its worst condition and by the mean over them; bounds have no place."""
    metric, axis = suite.metric, suite.contender_axis
    if not axis:
        return []
    higher = METRICS.get(metric, ("", "higher"))[1] != "lower"
    worst: Callable[..., Any] = min if higher else max
    conditions = list(dict.fromkeys(_condition(suite, row["labels"]) for row in rows))
    tables: dict[str, dict[tuple[str, ...], float | None]] = defaultdict(dict)
    marks: dict[str, dict[str, None]] = defaultdict(dict)
    for row in rows:
        label = row["labels"][axis]
        tables[label][_condition(suite, row["labels"])] = row["metrics"].get(metric, {}).get("mean")
        marks[label] |= {mark: None for mark in row["marks"] if mark.startswith("oracle")}
    lines = []
    for label, table in tables.items():
        values = {condition: value for condition in conditions if (value := table.get(condition)) is not None}
        whole = len(values) == len(conditions) > 0
        at = worst(values, key=lambda condition: values[condition]) if whole else None
        lines.append(
            {
                "label": label,
                "mean": fmean(values.values()) if whole else None,
                "worst": values[at] if at is not None else None,
                "worst_under": " · ".join(at) if at else None,
                "marks": [*marks[label], *([] if whole else ["some conditions are missing"])],
            }
        )
    _place(lines, tables, conditions, higher)
    return lines


def _place(
    lines: list[dict[str, Any]],
    tables: Mapping[str, Mapping[tuple[str, ...], float | None]],
    conditions: Sequence[tuple[str, ...]],
    higher: bool,
) -> None:
    """Give the contenders that have all conditions and are no bounds their ranks."""
    racing = [line for line in lines if line["mean"] is not None and not line["marks"]]
    places = {
        condition: ranks([tables[line["label"]][condition] for line in racing], higher)
        for condition in conditions
    }
    columns = {
        "rank_by_mean": ranks([line["mean"] for line in racing], higher),
        "rank_by_worst": ranks([line["worst"] for line in racing], higher),
        "mean_rank": [_mean(column[i] for column in places.values()) for i in range(len(racing))],
    }
    for line in lines:
        line |= dict.fromkeys(columns)
    for i, line in enumerate(racing):
        line |= {key: values[i] for key, values in columns.items()}


def _dose(suite: Suite, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the smallest dose at which a configuration has lost the stated points against its clean twin."""
    if not suite.dose:
        return None
    ladders: dict[tuple[tuple[str, str], ...], list[tuple[float, float | None]]] = defaultdict(list)
    for row in rows:
        rest = tuple((axis, label) for axis, label in row["labels"].items() if axis != suite.dose)
        loss = row["metrics"].get("twin_loss", {}).get("mean")
        ladders[rest].append((float(row["labels"][suite.dose]), loss))
    smallest = []
    for rest, ladder in ladders.items():
        reached = [dose for dose, loss in sorted(ladder) if loss is not None and loss >= suite.drop]
        smallest.append({"labels": dict(rest), "dose": reached[0] if reached else None})
    return {"axis": suite.dose, "drop": suite.drop, "metric": "twin_loss", "smallest": smallest}


def _notes(suite: Suite, content: Mapping[str, Any], usual: Mapping[str, Any]) -> list[str]:
    notes = []
    seeds = len(suite.seeds)
    if seeds < FEW:
        notes.append(f"{_many(seeds, 'seed')}: no intervals and no tests; take three or more.")
    elif content["comparisons"]:
        notes.append(
            f"{seeds} seeds: a paired test over them cannot give a p below {2.0 ** (1 - seeds):.3g}, "
            f"before Holm's correction."
        )
    if usual["synthetic"]:
        notes.append("Synthetic images: these figures say nothing of patients.")
    missing = content["missing"]
    if missing:
        failed = sum(line["error"] is not None for line in missing)
        notes.append(
            f"{_many(len(missing), 'cell')} missing, {failed} of them failed; the same command tries them."
        )
    if any(_is_bound(row) for row in content["rows"]):
        notes.append(
            "The oracle is told who is malicious: a bound, not a defence; it has no rank and no test."
        )
    differing = [
        row for row in content["rows"] if any(mark.startswith("other data") for mark in row["marks"])
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


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return fmean(known) if known else None

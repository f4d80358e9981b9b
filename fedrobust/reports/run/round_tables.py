"""The tables of a run's rounds: what is plotted, in numbers, and the defence's verdict on each hospital."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TypeVar

from fedrobust.evaluation.metrics import ROUND_METRICS, metric_of
from fedrobust.reports.palette import FLAG, ROLES
from fedrobust.reports.run.round_plots import SINGLE
from fedrobust.reports.tables import Cell, Column, Table, number
from fedrobust.results.finished_run import FinishedRun, Hospital

__all__ = [
    "curves_table",
    "defence_mib",
    "faults_table",
    "hospitals_table",
    "losses_table",
    "role_of",
    "seconds_by_phase",
    "time_table",
    "trust_table",
]

#: Sites that a row names.
_SITES = 5

Line = TypeVar("Line")


def curves_table(run: FinishedRun) -> Table:
    """Return all metrics of all rounds."""
    columns: list[Column | str] = ["round"]
    rows: list[list[Cell]] = [[entry.round] for entry in run.rounds]
    found: dict[str, list[float | None]] = {}
    for key in ROUND_METRICS:
        name = metric_of(key).name
        found[f"{name}, clean"] = [entry.clean.value(key) for entry in run.rounds]
        found[f"{name}, noisy"] = [entry.noisy.value(key) for entry in run.rounds]
    found |= {metric_of(key).name: [entry.value(key) for entry in run.rounds] for key in SINGLE}
    for name, values in found.items():
        if any(value is not None for value in values):
            columns.append(Column(name, 3))
            for row, value in zip(rows, values, strict=True):
                row.append(value)
    return Table("Clean and noisy test images by round", columns, rows)


def hospitals_table(run: FinishedRun) -> Table:
    """Return each hospital with the truth and the defence's verdict on it."""
    last = run.judged[-1] if run.judged else None
    rows: list[list[Cell]] = []
    for hospital in run.listed:
        n = hospital.number
        flags = [verdict.round for verdict in run.judged if n in verdict.flagged]
        why = last.why.get(n, "") if last else ""
        images = sum(hospital.counts) if hospital.counts else None
        part: list[Cell] = [run.rounds_taken_part[n]] if run.is_partial else []
        sites: list[Cell] = [_sites(run, n)] if run.manifest.is_by_site else []
        verdict: list[Cell] = [run.weights.get(n), len(flags), flags[0] if flags else None, why]
        rows.append([n, role_of(hospital), *sites, images, *part, *verdict])
    columns: list[Column | str] = [
        *("hospital", "truth", *(["sites"] if run.manifest.is_by_site else []), "images"),
        *(["rounds taken part in"] if run.is_partial else []),
        *(Column("last weight (1 = uniform)", 2), "rounds flagged", "first flagged in", "why, at the end"),
    ]
    return Table("Hospitals, the truth, and the defence's verdict", columns, rows)


def _sites(run: FinishedRun, number: int) -> str:
    """Return the names of the sites that a hospital's images come from, at most a few."""
    names = run.manifest.data.sites.get(number, ())
    return ", ".join(names[:_SITES]) + (f" and {len(names) - _SITES} more" if len(names) > _SITES else "")


def role_of(hospital: Hospital) -> str:
    """Return the truth about a hospital in words."""
    attack = f": {hospital.attack}" if hospital.attack else ""
    return f"{ROLES[hospital.role].mark} {hospital.role}{attack}"


def losses_table(run: FinishedRun) -> Table:
    """Return reported losses, a row a hospital, in up to ten of the rounds."""
    chosen = _some(run.client_metrics)
    columns: list[Column | str] = ["hospital", "truth"]
    rows: list[list[Cell]] = [[hospital.number, role_of(hospital)] for hospital in run.listed]
    for entry in chosen:
        for key, name in (("loss", "training"), ("received_loss", "received")):
            reported = entry.by_hospital(key)
            columns.append(Column(f"round {entry.round}, {name}", 3))
            for hospital, row in zip(run.listed, rows, strict=True):
                row.append(reported.get(hospital.number))
    return Table(f"Losses that hospitals reported{_of(chosen, run.client_metrics)}", columns, rows)


def trust_table(run: FinishedRun) -> Table:
    """Return weights in uniform weights, a row a hospital, in up to ten of the rounds; flags are marked."""
    chosen = _some(run.judged)
    columns: list[Column | str] = ["hospital", "truth"]
    rows: list[list[Cell]] = [[hospital.number, role_of(hospital)] for hospital in run.listed]
    for verdict in chosen:
        weights = run.uniform_weights(verdict)
        columns.append(Column(f"round {verdict.round}", 2))
        for hospital, row in zip(run.listed, rows, strict=True):
            weight = weights.get(hospital.number)
            flagged = hospital.number in verdict.flagged
            row.append(f"{number(weight, 2)} {FLAG}" if flagged else weight)
    return Table(f"Weights in uniform weights (1/n), {FLAG} flagged{_of(chosen, run.judged)}", columns, rows)


def _some(lines: Sequence[Line]) -> list[Line]:
    """Return up to ten lines, evenly spaced, with the first and the last, so that the page stays small."""
    if len(lines) <= 10:
        return list(lines)
    return [lines[round(i * (len(lines) - 1) / 9)] for i in range(10)]


def _of(chosen: Sequence[object], lines: Sequence[object]) -> str:
    return f" ({len(chosen)} of {len(lines)} rounds)" if len(chosen) < len(lines) else ""


def faults_table(run: FinishedRun) -> Table:
    """Return each hospital and round whose update was discarded."""
    rows: list[list[Cell]] = [
        [line.round, fault.hospital, fault.reason] for line in run.rounds for fault in line.faults
    ]
    return Table("Hospitals that failed, by round", ["round", "hospital", "reason"], rows)


def seconds_by_phase(run: FinishedRun) -> dict[str, list[float]]:
    """Return the seconds of each phase, a value a line of timings.jsonl."""
    names = dict.fromkeys(phase for entry in run.timings for phase in entry.seconds)
    return {name: [entry.seconds.get(name, 0.0) for entry in run.timings] for name in names}


def time_table(run: FinishedRun) -> Table:
    """Return where the time went, by phase."""
    found: list[tuple[str, float, float | None]] = []
    for name, values in seconds_by_phase(run).items():
        later = [v for v, entry in zip(values, run.timings, strict=True) if entry.round > 1]
        found.append((name, sum(values), statistics.median(later) if any(later) else None))
    found.sort(key=lambda row: -row[1])
    columns: list[Column | str] = [
        *("phase", Column("in all", 2, "s"), Column("a later round (median)", 3, "s")),
    ]
    return Table("Where the time went", columns, found)


def defence_mib(run: FinishedRun) -> float | None:
    """Return the defence's peak of additional memory, where it is recorded."""
    return max((entry.defence_mib for entry in run.timings if entry.defence_mib is not None), default=None)

"""The tables of a run's rounds: what is plotted, in numbers, and what the defence made of each hospital."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from fedrobust.reports.palette import FLAG, ROLES
from fedrobust.reports.run.round_plots import METRICS, SINGLE
from fedrobust.reports.tables import Column, Table, number
from fedrobust.results.records import Hospital, Record, fair_shares

__all__ = [
    "curves_table",
    "defence_mib",
    "faults_table",
    "hospitals_table",
    "losses_table",
    "said",
    "seconds_by_phase",
    "time_table",
    "trust_table",
]


def curves_table(record: Record) -> Table:
    """Return all metrics of all rounds."""
    columns: list[Column | str] = ["round"]
    rows: list[list[Any]] = [[entry["round"]] for entry in record.rounds]
    told = {
        f"{name}, {part}": [entry.get(part, {}).get(key) for entry in record.rounds]
        for key, name in METRICS.items()
        for part in ("clean", "noisy")
    }
    told |= {name: [entry.get(key) for entry in record.rounds] for key, name in SINGLE.items()}
    for name, values in told.items():
        if any(value is not None for value in values):
            columns.append(Column(name, 3))
            for row, value in zip(rows, values, strict=True):
                row.append(value)
    return Table("Clean and noisy test images by round", columns, rows)


def hospitals_table(record: Record) -> Table:
    """Return each hospital with the truth, and what the defence made of it."""
    rows = []
    for hospital in record.hospitals:
        n = hospital.number
        flags = [verdict["round"] for verdict in record.judged if n in verdict.get("flagged", ())]
        why = record.judged[-1].get("why", {}).get(str(n), "") if record.judged else ""
        images = sum(hospital.counts) if hospital.counts else None
        rows.append(
            [n, said(hospital), images, record.weights.get(n), len(flags), flags[0] if flags else None, why]
        )
    columns: list[Column | str] = [
        *("hospital", "truth", "images", Column("last weight, fair shares", 2)),
        *("rounds flagged", "first flagged in", "why, at the end"),
    ]
    return Table("Hospitals, the truth, and the defence's verdict", columns, rows)


def said(hospital: Hospital) -> str:
    """Return the truth about a hospital in words."""
    attack = f": {hospital.attack}" if hospital.attack else ""
    return f"{ROLES[hospital.role].mark} {hospital.role}{attack}"


def losses_table(record: Record) -> Table:
    """Return claimed losses, a row a hospital, in up to ten of the rounds."""
    chosen = _some(record.reports)
    columns: list[Column | str] = ["hospital", "truth"]
    rows: list[list[Any]] = [[hospital.number, said(hospital)] for hospital in record.hospitals]
    for report in chosen:
        for key, name in (("loss", "training"), ("received_loss", "received")):
            told = dict(zip(report.get("hospitals") or (), report.get(key) or (), strict=False))
            columns.append(Column(f"round {report['round']}, {name}", 3))
            for row in rows:
                row.append(told.get(row[0]))
    return Table(f"Losses that hospitals claimed{_of(chosen, record.reports)}", columns, rows)


def trust_table(record: Record) -> Table:
    """Return weights in fair shares, a row a hospital, in up to ten of the rounds; flags are marked."""
    chosen = _some(record.judged)
    columns: list[Column | str] = ["hospital", "truth"]
    rows: list[list[Any]] = [[hospital.number, said(hospital)] for hospital in record.hospitals]
    for verdict in chosen:
        shares = fair_shares(verdict)
        columns.append(Column(f"round {verdict['round']}", 2))
        for row in rows:
            mark = f" {FLAG}" if row[0] in verdict.get("flagged", ()) else ""
            weight = shares.get(row[0])
            row.append(f"{number(weight, 2)}{mark}" if mark else weight)
    return Table(f"Weights in fair shares, {FLAG} flagged{_of(chosen, record.judged)}", columns, rows)


def _some(lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return up to ten lines, evenly spread, the first and the last among them: a table of all would be the page."""
    if len(lines) <= 10:
        return list(lines)
    return [lines[round(i * (len(lines) - 1) / 9)] for i in range(10)]


def _of(chosen: Sequence[object], lines: Sequence[object]) -> str:
    return f" ({len(chosen)} of {len(lines)} rounds)" if len(chosen) < len(lines) else ""


def faults_table(record: Record) -> Table:
    """Return each round that a hospital lost."""
    rows = [
        [entry["round"], fault.get("hospital"), fault.get("reason", "")]
        for entry in record.rounds
        for fault in entry.get("faults") or ()
    ]
    return Table("Rounds that hospitals lost", ["round", "hospital", "reason"], rows)


def seconds_by_phase(record: Record) -> dict[str, list[float]]:
    """Return the seconds of each phase, a value a line of timings.jsonl."""
    names = dict.fromkeys(
        key for entry in record.timings for key in entry if key not in ("round", "defence_mib")
    )
    return {name: [entry.get(name) or 0.0 for entry in record.timings] for name in names}


def time_table(record: Record) -> Table:
    """Return where the time went, by phase."""
    rows: list[list[Any]] = []
    for name, values in seconds_by_phase(record).items():
        later = [v for v, entry in zip(values, record.timings, strict=True) if entry.get("round", 0) > 1]
        rows.append([name, sum(values), statistics.median(later) if any(later) else None])
    rows.sort(key=lambda row: -row[1])
    columns: list[Column | str] = [
        "phase",
        Column("in all", 2, "s"),
        Column("a later round (median)", 3, "s"),
    ]
    return Table("Where the time went", columns, rows)


def defence_mib(record: Record) -> float | None:
    """Return the defence's peak of extra memory, where it is recorded."""
    told = [entry["defence_mib"] for entry in record.timings if entry.get("defence_mib") is not None]
    return max(told) if told else None

"""The figures and tables of a run's page that are read, not plotted."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedrobust.evaluation.drop import DROP_METRICS
from fedrobust.reports.figures import METRICS, SINGLE
from fedrobust.reports.palette import FLAG, ROLES
from fedrobust.reports.record import Hospital, Record, fair_shares
from fedrobust.reports.tables import Column, Table, number, percent, share

__all__ = ["KeyFigure", "key_figures"]


@dataclass(frozen=True)
class KeyFigure:
    """One number that is read first.

    Attributes
    ----------
    name, value, beside : str
        What it is, the number, and what it is held against.
    """

    name: str
    value: str
    beside: str = ""


def key_figures(record: Record) -> list[KeyFigure]:
    """Return the numbers that are read first."""
    summary = record.summary
    clean, noisy, drop = (summary.get(key) or {} for key in ("clean", "noisy", "drop"))
    made = [
        KeyFigure(
            "Accuracy", share(clean.get("accuracy")), f"{share(noisy.get('accuracy'))} on noisy images"
        ),
        KeyFigure(
            "Macro F1", share(clean.get("macro_f1")), f"{share(noisy.get('macro_f1'))} on noisy images"
        ),
        KeyFigure("Combined drop", percent(drop.get("combined")), "clean to noisy images"),
    ]
    last = record.rounds[-1] if record.rounds else {}
    if (worst := last.get("clean", {}).get("worst_class")) is not None:
        made.append(KeyFigure("Worst class", share(worst), _worst_name(record)))
    if (worst := last.get("worst_hospital")) is not None:
        made.append(KeyFigure("Worst honest hospital", share(worst), "accuracy on its mix of classes"))
    if (ece := last.get("clean", {}).get("ece")) is not None:
        made.append(KeyFigure("Calibration error", share(ece), "ECE; 0 is as sure as right"))
    if summary.get("attack_success_rate") is not None:
        made.append(
            KeyFigure(
                "Attack success", share(summary["attack_success_rate"]), "marked images taken for the target"
            )
        )
    return made + _detection(record)


def _worst_name(record: Record) -> str:
    last = record.rounds[-1]["clean"].get("sensitivity") or ()
    known = [(value, name) for value, name in zip(last, record.classes, strict=False) if value is not None]
    return f"sensitivity, {min(known)[1]}" if known else "sensitivity"


def _detection(record: Record) -> list[KeyFigure]:
    if not record.judged:
        return []
    bad, flagged = record.malicious, record.flagged
    detection = record.summary.get("detection") or {}
    made = []
    if bad:
        auroc = detection.get("auroc")
        made.append(
            KeyFigure(
                "Attackers flagged",
                f"{len(bad & flagged)} of {len(bad)}",
                f"AUROC of the scores {share(auroc)}",
            )
        )
        kept = [record.weights[one] for one in bad if one in record.weights]
        mean = statistics.fmean(kept) if kept else None
        made.append(KeyFigure("Attackers' weight", number(mean, 2), "of a fair share, at the end"))
    rate = detection.get("false_flag_rate")
    of_rounds = f"{number(100 * rate, 1, '%')} of their rounds" if rate is not None else "at the end"
    made.append(KeyFigure("Honest flagged", str(len(flagged - bad)), of_rounds))
    return made


def curves_table(record: Record) -> Table:
    """Return all metrics of all rounds."""
    columns: list[Column | str] = ["round"]
    cells: list[list[Any]] = [[entry["round"]] for entry in record.rounds]
    wanted = [(key, part) for key in METRICS for part in ("clean", "noisy")]
    for key, part in wanted:
        values = [entry.get(part, {}).get(key) for entry in record.rounds]
        if any(value is not None for value in values):
            columns.append(Column(f"{METRICS[key]}, {part}", 3))
            for row, value in zip(cells, values, strict=True):
                row.append(value)
    for key, name in SINGLE.items():
        values = [entry.get(key) for entry in record.rounds]
        if any(value is not None for value in values):
            columns.append(Column(name, 3))
            for row, value in zip(cells, values, strict=True):
                row.append(value)
    return Table("Clean and noisy test images by round", columns, cells)


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


def counts_table(
    names: Sequence[str],
    counts: Sequence[Sequence[int]],
    classes: Sequence[str],
    missing: Sequence[Mapping[str, float]],
) -> Table:
    """Return images of each class, and the share that lacks a fact, by hospital or part."""
    facts = sorted({fact for of_one in missing for fact in of_one})
    rows = [
        [name, sum(row), *row, *((None if f not in lacks else 100 * lacks[f]) for f in facts)]
        for name, row, lacks in zip(names, counts, missing, strict=True)
    ]
    columns: list[Column | str] = [
        "",
        "images",
        *classes,
        *(Column(f"{fact} missing", 1, "%") for fact in facts),
    ]
    return Table("Images by class", columns, rows)


def confusion_table(counts: Sequence[Sequence[int]], classes: Sequence[str], part: str) -> Table:
    """Return a confusion matrix, truth in rows."""
    rows = [[name, *row] for name, row in zip(classes, counts, strict=False)]
    return Table(f"Confusion, {part} images: truth in rows, prediction in columns", ["truth", *classes], rows)


def classes_table(record: Record) -> Table:
    """Return sensitivity, specificity and precision of each class."""
    told = {part: record.evaluation.get(part) or {} for part in ("clean", "noisy")}
    rows: list[list[Any]] = []
    for k, name in enumerate(record.classes):
        row: list[Any] = [name]
        for part in told.values():
            confusion = part.get("confusion") or []
            row.append(sum(confusion[k]) if k < len(confusion) else None)
            for key in ("sensitivity", "specificity", "precision"):
                values = part.get(key) or []
                row.append(values[k] if k < len(values) else None)
        del row[5]  # the noisy images are the clean ones
        rows.append(row)
    names = ("sensitivity", "specificity", "precision")
    columns: list[Column | str] = [
        "class",
        "test images",
        *(Column(f"{n}, {part}", 3) for part in told for n in names),
    ]
    return Table("Each class against the others", columns, rows)


def drop_table(record: Record) -> Table:
    """Return the drop's components."""
    summary = record.summary
    clean, noisy, drop = (summary.get(key) or {} for key in ("clean", "noisy", "drop"))
    rows: list[list[Any]] = [
        [METRICS[key], clean.get(key), noisy.get(key), drop.get(key)] for key in DROP_METRICS
    ]
    rows.append(["combined (their mean)", "", "", drop.get("combined")])
    return Table(
        "Drop from clean to noisy", ["", Column("clean", 3), Column("noisy", 3), Column("drop", 2, "%")], rows
    )


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


def provenance_table(record: Record) -> Table:
    """Return what the run was made with."""
    manifest = record.manifest
    data, machine = (manifest.get(key) or {} for key in ("data", "machine"))
    shape = " × ".join(map(str, data.get("shape") or ()))
    source = f"{data.get('source', '–')}{' (synthetic)' if data.get('synthetic') else ''}"
    rows: dict[str, Any] = {
        "data": source,
        "images": f"{data.get('images', '–')} of {shape} (channels, height, width)",
        "SHA-256 of the data": data.get("sha256"),
        "seed": record.summary.get("seed"),
        "hash of the settings": manifest.get("settings_hash"),
        "git commit": manifest.get("git_commit"),
        "started": manifest.get("started"),
        "machine": f"{machine.get('system', '–')}, {machine.get('cores', '–')} cores",
        "versions": ", ".join(f"{n} {v}" for n, v in (manifest.get("versions") or {}).items() if v),
        "the defence trusts": _trusts(manifest),
    }
    own = (manifest.get("deployment") or {}).get("own_data") or {}
    if own:
        rows["hospitals with data of their own"] = ", ".join(f"{n} {source}" for n, source in own.items())
    return Table(
        "Provenance",
        ["what", "value"],
        [[name, "not recorded" if value is None else str(value)] for name, value in rows.items()],
    )


def _trusts(manifest: Mapping[str, Any]) -> str | None:
    told = manifest.get("defence_trusts")
    if told is None:
        return None
    return ", ".join(told) if told else "nothing that hospitals claim"


def calibration_table(parts: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    """Return the bins of confidence."""
    rows = [
        [
            part,
            f"{b.get('low', 0):.1f} to {b.get('high', 1):.1f}",
            b.get("count"),
            b.get("confidence"),
            b.get("accuracy"),
        ]
        for part, bins in parts.items()
        for b in bins
    ]
    columns: list[Column | str] = [
        "images",
        "confidence",
        "how many",
        Column("mean confidence", 3),
        Column("accuracy", 3),
    ]
    return Table("How sure, and how often right", columns, rows)


def accuracies_table(record: Record) -> Table:
    """Return each hospital's accuracy."""
    rows = [[h.number, said(h), h.accuracy] for h in record.hospitals]
    return Table("Accuracy by hospital", ["hospital", "truth", Column("accuracy", 3)], rows)

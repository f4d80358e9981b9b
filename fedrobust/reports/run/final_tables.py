"""The tables of what a run came to, and of what it was made with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedrobust.evaluation.drop import DROP_METRICS
from fedrobust.reports.run.round_plots import METRICS
from fedrobust.reports.run.round_tables import said
from fedrobust.reports.tables import Column, Table
from fedrobust.results.records import Record

__all__ = [
    "accuracies_table",
    "calibration_table",
    "classes_table",
    "confusion_table",
    "counts_table",
    "drop_table",
    "provenance_table",
]


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
            f"{b.get('low', 0):.3f} to {b.get('high', 1):.3f}",
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

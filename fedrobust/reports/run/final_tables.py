"""The tables of a run's final evaluation, and of what it was made with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedrobust.evaluation.drop import DROP_METRICS
from fedrobust.evaluation.metrics import metric_of
from fedrobust.reports.run.round_tables import role_of
from fedrobust.reports.tables import Cell, Column, Table
from fedrobust.results.finished_run import FinishedRun
from fedrobust.results.records import CalibrationBin, ClassMetrics, Manifest, SiteTests

__all__ = [
    "accuracies_table",
    "calibration_table",
    "classes_table",
    "confusion_table",
    "counts_table",
    "drop_table",
    "provenance_table",
    "site_tests_table",
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
    rows: list[list[Cell]] = [[name, *row] for name, row in zip(classes, counts, strict=False)]
    return Table(f"Confusion, {part} images: truth in rows, prediction in columns", ["truth", *classes], rows)


def classes_table(run: FinishedRun) -> Table:
    """Return sensitivity, specificity and precision of each class."""
    found = run.evaluation
    clean, noisy = (found.clean, found.noisy) if found else (ClassMetrics(), ClassMetrics())
    rows = [
        [
            name,
            sum(clean.confusion[k]) if k < len(clean.confusion) else None,
            *_of_class(clean, k),
            *_of_class(noisy, k),
        ]
        for k, name in enumerate(run.classes)
    ]
    columns: list[Column | str] = [
        *("class", "test images"),
        *(Column(f"{name}, {part}", 3) for part in ("clean", "noisy") for name in _OF_CLASS),
    ]
    return Table("Each class against the others", columns, rows)


_OF_CLASS = ("sensitivity", "specificity", "precision")


def _of_class(part: ClassMetrics, k: int) -> list[float | None]:
    columns = (part.sensitivity, part.specificity, part.precision)
    return [values[k] if k < len(values) else None for values in columns]


def drop_table(run: FinishedRun) -> Table:
    """Return the drop's components."""
    summary = run.summary
    rows: list[list[Cell]] = [
        [metric_of(key).name, summary.clean.value(key), summary.noisy.value(key), summary.drop.get(key)]
        for key in DROP_METRICS
    ]
    rows.append(["combined (their mean)", "", "", summary.drop.get("combined")])
    columns: list[Column | str] = ["", Column("clean", 3), Column("noisy", 3), Column("drop", 2, "%")]
    return Table("Drop from clean to noisy", columns, rows)


def provenance_table(run: FinishedRun) -> Table:
    """Return what the run was made with."""
    manifest = run.manifest
    data, machine = manifest.data, manifest.machine
    shape = " × ".join(map(str, data.shape))
    rows: dict[str, object] = {
        "data": f"{data.source}{' (synthetic)' if data.synthetic else ''}",
        "images": f"{data.images} of {shape} (channels, height, width)",
        "SHA-256 of the data": data.sha256,
        "seed": run.summary.seed,
        "hash of the settings": manifest.settings_hash,
        "git commit": manifest.git_commit,
        "started": manifest.started,
        "machine": f"{machine.system}, {machine.cores or '–'} cores" if machine else None,
        "versions": ", ".join(f"{name} {version}" for name, version in manifest.versions.items() if version),
        "the defence relies on": _trusts(manifest),
    }
    for plugin in manifest.plugins:
        if plugin.kind != "built-in":
            rows[f"{plugin.kind} plug-in {plugin.plugin}"] = f"{plugin.file}, SHA-256 {plugin.source_hash}"
    own = manifest.deployment.own_data if manifest.deployment else {}
    if own:
        rows["hospitals with data of their own"] = ", ".join(f"{n} {source}" for n, source in own.items())
    cells = [[name, "not recorded" if value is None else str(value)] for name, value in rows.items()]
    return Table("Provenance", ["what", "value"], cells)


def _trusts(manifest: Manifest) -> str | None:
    if manifest.defence_trusts is None:
        return None
    return ", ".join(manifest.defence_trusts) or "nothing that hospitals report"


def calibration_table(parts: Mapping[str, Sequence[CalibrationBin]]) -> Table:
    """Return the bins of confidence."""
    rows = [
        [part, f"{b.low:.3f} to {b.high:.3f}", b.count, b.confidence, b.accuracy]
        for part, bins in parts.items()
        for b in bins
    ]
    columns: list[Column | str] = [
        *("images", "confidence", "how many", Column("mean confidence", 3), Column("accuracy", 3)),
    ]
    return Table("Confidence and accuracy", columns, rows)


def site_tests_table(found: SiteTests) -> Table:
    """Return the cross-site matrix: a row for each model, a column for each hospital's test part."""
    columns: list[Column | str] = [
        "model of",
        *(Column(f"at {number} ({n} images)", 3) for number, n in enumerate(found.images)),
    ]
    rows: list[list[Cell]] = [["all (global)", *found.global_model]]
    rows += [[f"hospital {number}", *row] for number, row in enumerate(found.hospitals)]
    return Table("Accuracy of each model on each hospital's own test part", columns, rows)


def accuracies_table(run: FinishedRun) -> Table:
    """Return each hospital's accuracy."""
    rows = [[h.number, role_of(h), h.accuracy] for h in run.listed]
    return Table("Accuracy by hospital", ["hospital", "truth", Column("accuracy", 3)], rows)

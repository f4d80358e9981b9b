"""The files of an audit: what was found, and the records that stay, as a source."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedrobust.audit.examination import Audit
from fedrobust.data.ingest.table import FACTS
from fedrobust.data.records import Records
from fedrobust.errors import UserError

__all__ = ["cleaned_manifest", "summary", "write_audit"]


def summary(found: Audit, source: str, planted: NDArray[np.bool_] | None = None) -> dict[str, object]:
    """Return what was found as plain values.

    Parameters
    ----------
    found : Audit
    source : str
        The data source as it was named.
    planted : ndarray of bool, shape (n,), optional
        The records that were contaminated for a test.
    """
    records = found.records
    written: dict[str, object] = {
        "source": source,
        "digest": records.digest(),
        "methods": list(found.findings),
        "records": len(records),
        "suspected": len(found.suspected),
        "rates": [asdict(rate) for rate in found.rates],
        "suspects": [_suspect(found, int(place)) for place in found.suspected],
        "scores": np.round(found.scores, 4).tolist(),
    }
    if planted is not None:
        written["planted"] = _hits(found, planted)
    return written


def _suspect(found: Audit, place: int) -> dict[str, object]:
    records = found.records
    return {
        "record": place,
        "label": records.classes[records.labels[place]],
        "hospital": str(found.hospitals[place]),
        "kind": found.kind(place),
        "score": round(float(found.scores[place]), 4),
        "method": found.methods[place],
        "evidence": found.evidence(place),
        **{
            name: str(column[place])
            for name, column in records.facts.items()
            if name in ("file", "frame", "patient")
        },
    }


def _hits(found: Audit, planted: NDArray[np.bool_]) -> dict[str, object]:
    """Return how well the planted records were found."""
    suspected = found.scores >= 1
    hits: dict[str, object] = {
        "records": int(planted.sum()),
        "found": int((suspected & planted).sum()),
        "false": int((suspected & ~planted).sum()),
    }
    if 0 < planted.sum() < len(planted):
        from sklearn.metrics import roc_auc_score

        hits["auroc"] = float(roc_auc_score(planted, found.scores))
        hits["auroc_by_method"] = {
            name: float(roc_auc_score(planted, finding.scores)) for name, finding in found.findings.items()
        }
    return hits


def write_audit(folder: Path, found: Audit, texts: Mapping[str, str], base: Path | None) -> str:
    """Write texts by file name into a folder, and the records that nothing is held against as a source.

    Parameters
    ----------
    folder : Path
    found : Audit
    texts : mapping of str to str
    base : Path or None
        Where the paths of the source's files start; None for a source without files.

    Returns
    -------
    str
        The flags of `fedrobust simulate` that train on these records.

    Raises
    ------
    UserError
        If something cannot be written.
    """
    try:
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")
        if base is not None and "file" in found.records.facts:
            table = folder / "cleaned.csv"
            table.write_text(cleaned_manifest(found, base), encoding="utf-8", errors="surrogateescape")
            return f"--data {shlex.quote(f'manifest:{table}')} --data-root {shlex.quote(str(base))}"
        _write_arrays(folder / "cleaned.npz", found.records.take(found.clean))
        return f"--data medmnist:cleaned --data-root {shlex.quote(str(folder))}"
    except OSError as error:
        raise UserError(f"{folder} cannot be written to ({error.strerror}); give another --out") from None


def cleaned_manifest(found: Audit, base: Path) -> str:
    """Return a manifest of the files of which no image is suspected, as CSV.

    Parameters
    ----------
    found : Audit
    base : Path
        Where the paths of the source's files start.
    """
    records = found.records
    files = records.facts["file"]
    suspected = set(files[found.suspected].tolist())
    facts = {name: records.facts[name] for name in FACTS if name in records.facts}
    parts = {} if records.parts is None else {"split": records.parts}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label", *parts, *facts])
    _, first = np.unique(files, return_index=True)
    for place in np.sort(first).tolist():
        if files[place] not in suspected:
            columns = (str(column[place]) for column in (*parts.values(), *facts.values()))
            writer.writerow([base / files[place], records.classes[records.labels[place]], *columns])
    return text.getvalue()


def _write_arrays(path: Path, records: Records) -> None:
    """Write records in MedMNIST's layout."""
    images = records.images[:, 0] if records.images.shape[1] == 1 else np.moveaxis(records.images, 1, -1)
    parts = np.full(len(records), "train") if records.parts is None else records.parts
    arrays: dict[str, NDArray[np.generic]] = {"classes": np.array(records.classes)}
    for part in sorted(set(parts.tolist())):
        members = parts == part
        arrays[f"{part}_images"] = images[members]
        arrays[f"{part}_labels"] = records.labels[members, None]
        for name in FACTS:
            if name in records.facts:
                arrays[f"{part}_{name}"] = records.facts[name][members]
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]

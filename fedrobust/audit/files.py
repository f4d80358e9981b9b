"""The files of an audit: what was found as JSON, and a table of the records that stay."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedrobust.audit.examination import Audit
from fedrobust.errors import UserError

__all__ = ["cleaned_table", "summary", "write_audit"]


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
        **{name: str(column[place]) for name, column in records.facts.items() if name in ("path", "patient")},
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


def cleaned_table(found: Audit) -> str:
    """Return the records that nothing is held against as CSV: number, label, facts."""
    records = found.records
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["record", "label", *records.facts])
    for place in found.clean.tolist():
        facts = [str(column[place]) for column in records.facts.values()]
        writer.writerow([place, records.classes[records.labels[place]], *facts])
    return text.getvalue()


def write_audit(folder: Path, found: Audit, written: Mapping[str, object]) -> None:
    """Write ``audit.json`` and ``cleaned.csv`` into a folder.

    Raises
    ------
    UserError
        If they cannot be written.
    """
    try:
        (folder / "audit.json").write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
        (folder / "cleaned.csv").write_text(cleaned_table(found), encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UserError(f"{folder} cannot be written to ({error.strerror}); give another --out") from None

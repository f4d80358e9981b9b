"""The page of an audit: how much is suspected of what, and the worst offenders as images."""

from __future__ import annotations

from dataclasses import dataclass

from fedrobust.audit.base import KINDS
from fedrobust.audit.examination import Audit
from fedrobust.reports.page import render
from fedrobust.reports.run.examples import png
from fedrobust.reports.tables import Column, Table

__all__ = ["audit_page"]

#: Suspected images of each kind that are shown.
_SHOWN = 24


@dataclass(frozen=True)
class _Offender:
    """A suspected image.

    Attributes
    ----------
    record : int
        Its position in the source, from 0.
    file : str
        The file's name; empty where the source has no files.
    label, hospital, evidence : str
    score : float
    image : str
        PNG as a ``data:`` address.
    width, height : int
    """

    record: int
    file: str
    label: str
    hospital: str
    evidence: str
    score: float
    image: str
    width: int
    height: int


def audit_page(found: Audit, source: str) -> str:
    """Return the page of an audit, one HTML file.

    Parameters
    ----------
    found : Audit
    source : str
        The data source as it was named.
    """
    by_kind: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for place in found.suspected.tolist():
        by_kind[found.kind(place)].append(place)
    return render(
        "audit.html.j2",
        source=source,
        count=len(found.suspected),
        total=len(found.records),
        rates=_rates(found),
        methods=_methods(found),
        kinds=[
            (kind, len(places), [_offender(found, place) for place in places[:_SHOWN]])
            for kind, places in by_kind.items()
            if places
        ],
    )


def _rates(found: Audit) -> Table:
    percent = [Column(name, 1, "%") for name in ("share", "from", "to")]
    return Table(
        "Suspected records by hospital and kind, with Wilson's 95 % interval of the share",
        ["hospital", "kind", "suspected", "records", *percent],
        [
            (
                rate.hospital,
                rate.kind,
                rate.suspected,
                rate.records,
                100 * rate.suspected / rate.records,
                100 * rate.low,
                100 * rate.high,
            )
            for rate in found.rates
        ],
    )


def _methods(found: Audit) -> Table:
    return Table(
        "What each method suspects, whatever the others do",
        ["method", "kind", "suspected"],
        [(name, found.kinds[name], int(finding.suspected.sum())) for name, finding in found.findings.items()],
    )


def _offender(found: Audit, place: int) -> _Offender:
    records = found.records
    height, width = records.images.shape[2:]
    return _Offender(
        place,
        str(records.facts["file"][place]) if "file" in records.facts else "",
        records.classes[records.labels[place]],
        str(found.hospitals[place]),
        found.evidence(place),
        float(found.scores[place]),
        png(records.images[place]),
        width,
        height,
    )

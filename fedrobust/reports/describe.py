"""The page of a description: tables of the records, and example images of each class."""

from __future__ import annotations

import numpy as np

from fedrobust.data.description import Counts, Description
from fedrobust.data.records import Records
from fedrobust.reports.page import render
from fedrobust.reports.run.examples import png
from fedrobust.reports.tables import Cell, Column, Table

__all__ = ["describe_page"]

#: Example images of each class.
_EXAMPLES = 6


def describe_page(found: Description, records: Records) -> str:
    """Return the page of a description, one HTML file.

    Parameters
    ----------
    found : Description
    records : Records
        Those described, for the examples.
    """
    return render(
        "describe.html.j2",
        found=found,
        counts=[_counts(one, found.classes) for one in found.counts],
        missing=_missing(found),
        intensities=_intensities(found),
        examples=_examples(records) if records.pixels else [],
    )


def _counts(counts: Counts, classes: tuple[str, ...]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (group, *row, sum(row)) for group, row in zip(counts.groups, counts.images, strict=True)
    ]
    return Table(f"Images by {counts.by} and class", [counts.by, *classes, "all"], rows)


def _missing(found: Description) -> Table:
    rows: list[tuple[Cell, ...]] = [(one.fact, one.images, *one.by_class) for one in found.missing]
    return Table("Missing values, and the classes they are in", ["fact", "missing", *found.classes], rows)


def _intensities(found: Description) -> Table:
    names = ("mean", "contrast", "5 % are darker than", "5 % are brighter than")
    rows = [
        (one.hospital, one.images, one.mean, one.contrast, one.darkest, one.brightest)
        for one in found.intensities
    ]
    columns: list[Column | str] = ["hospital", "images", *(Column(name, 1) for name in names)]
    return Table("Grey levels by hospital, 0 to 255", columns, rows)


def _examples(records: Records) -> list[tuple[str, list[str]]]:
    """Return class names with images, evenly spaced over the source."""
    found = []
    for k, name in enumerate(records.classes):
        members = np.flatnonzero(records.labels == k)
        chosen = (
            members[np.unique(np.linspace(0, len(members) - 1, _EXAMPLES).astype(int))]
            if len(members)
            else []
        )
        found.append((name, [png(records.images[place]) for place in chosen]))
    return found

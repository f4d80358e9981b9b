"""What is wrong with the rows of a table, found without stopping at the first."""

from __future__ import annotations

from collections import Counter

from fedrobust.data.ingest.faults import Fault
from fedrobust.data.ingest.paths import BadPath, Finder, FoundFile
from fedrobust.data.ingest.table import PARTS, Row, Table, part_named
from fedrobust.data.limits import LONGEST_NAME, MOST_CLASSES
from fedrobust.errors import nearest

__all__ = ["Check", "ordered"]


class Check:
    """Finds what is wrong with a table's rows, and keeps it in their order.

    Parameters
    ----------
    table : Table
    classes : tuple of str
        All labels that count; empty to take those that occur more than once.

    Attributes
    ----------
    bad : set of int
        The rows with faults.
    """

    def __init__(self, table: Table, classes: tuple[str, ...]) -> None:
        """Start with the faults that the reader found."""
        self.classes = classes
        self.bad: set[int] = set()
        self._table = table
        self._faults: list[tuple[int, Fault]] = [(-1, fault) for fault in table.faults]

    def add(self, number: int, kind: str, what: str) -> None:
        """Note what is wrong with a row."""
        self.bad.add(number)
        self._faults.append((number, Fault(what, self._table.rows[number].place, kind)))

    def report(self) -> list[Fault]:
        """Return all faults in the order of the rows."""
        return [fault for _, fault in sorted(self._faults, key=lambda one: one[0])]

    def file(self, number: int, finder: Finder) -> FoundFile | None:
        """Return the file of a row; None, with a fault, where there is none."""
        row = self._table.rows[number]
        if not row.path and any(fault.fatal for fault in self._table.faults):
            return None  # there is no such column, which is said once
        try:
            return finder.find(row.path)
        except BadPath as error:
            self.add(number, error.kind, str(error))
            return None

    def rows(self) -> None:
        """Check labels, parts and hospitals of all rows."""
        rows = self._table.rows
        # A label that is told once is no class: nothing could be trained and tested on it.
        counts = Counter(row.label for row in rows if row.label)
        known = self.classes or tuple(label for label, count in counts.items() if count > 1) or tuple(counts)
        if len(known) > MOST_CLASSES:
            what = f"{len(known)} labels, more than the {MOST_CLASSES} classes that a model may have"
            self._faults.append((-1, Fault(f"{what}; name the column of the classes", fatal=True)))
            return
        for number, row in enumerate(rows):
            if not row.label and counts:
                self.add(number, "missing label", "the label is missing")
            elif row.label and row.label not in known:
                hint = nearest(row.label, known)
                self.add(number, "unknown label", f"the label '{row.label}' is unknown; {hint}")
            if self._table.has_parts and part_named(row.part) is None:
                what = f"the split is '{row.part}'; name {', '.join(PARTS)}" if row.part else "has no split"
                self.add(number, "unknown split", what)
            self._facts(number, row)
        self._hospitals()

    def _facts(self, number: int, row: Row) -> None:
        if "site" in self._table.columns and not row.facts.get("site"):
            self.add(number, "missing hospital", "the hospital is missing")
        for name, value in {**row.facts, "label": row.label}.items():
            if len(value) > LONGEST_NAME:
                self.add(number, "long text", f"{name} has {len(value)} letters, more than {LONGEST_NAME}")

    def _hospitals(self) -> None:
        """Note hospitals that have no usable image."""
        rows = enumerate(self._table.rows)
        hospitals = {row.facts.get("site", ""): 0 for row in self._table.rows}
        for number, row in rows:
            hospitals[row.facts.get("site", "")] += number not in self.bad
        for name, count in hospitals.items():
            if name and not count:
                fault = Fault(f"hospital '{name}' has no image that can be used", kind="empty hospital")
                self._faults.append((len(self._table.rows), fault))


def ordered(labels: set[str]) -> tuple[str, ...]:
    """Return labels in order: whole numbers by value, others by letter."""
    if all(label.lstrip("-").isdigit() for label in labels):
        return tuple(sorted(labels, key=int))
    return tuple(sorted(labels))

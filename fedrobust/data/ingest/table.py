"""The table of records: what a source says of each image before any image is opened.

Readers (`folder`, `manifest`, `hugging_face`) make a `Table`; `load` checks it, decodes its files and returns
`Records`. Later steps, such as descriptions and audits, see the same columns in the loaded records::

    records = load_records(spec)        # fedrobust.data.sources
    records.labels, records.classes     # class numbers and names
    records.facts["patient"]            # one text per image, "" where it is missing; see FACTS
    records.facts["file"]               # the path as the source writes it; "frame" and "content" likewise
    records.parts                       # "train", "val" or "test", or None where the source has no split

A column that the source lacks is absent from `facts`. ``site`` is the hospital that an image comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fedrobust.data.ingest.faults import Fault

__all__ = ["FACTS", "FILE_FACTS", "PARTS", "Row", "Table", "missing_as_empty", "part_named"]

#: What a source may state of each image beside its label.
FACTS = ("site", "patient", "sex", "view", "age", "fold")

#: What is known of images that come from files: path, number of the slice or frame, SHA-256 of the bytes.
FILE_FACTS = ("file", "frame", "content")

PARTS = ("train", "val", "test")

_PART_NAMES = {
    "training": "train",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "testing": "test",
} | {part: part for part in PARTS}

#: How tables write that a value is missing.
_MISSING = frozenset({"", "nan", "na", "n/a", "none", "null", "<na>", "nat"})


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a source.

    Attributes
    ----------
    path : str
        As the source writes it.
    label : str
        Empty where it is missing.
    where : str
        Such as ``"line 12"``; empty where a source has no lines.
    facts : mapping of str to str
        Of `FACTS`; empty where a value is missing.
    part : str
        As the source writes it; empty where it says nothing.
    """

    path: str
    label: str
    where: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    part: str = ""

    @property
    def place(self) -> str:
        """Return where the row stands, with its path."""
        return ": ".join(text for text in (self.where, self.path) if text)


@dataclass(frozen=True)
class Table:
    """All rows of a source, in its order.

    Attributes
    ----------
    source : str
        For reports; without the folders above the source, which are private.
    root : Path
        Where relative paths start, and what no path may leave.
    rows : tuple of Row
    columns : frozenset of str
        Those of `FACTS` that the source has.
    has_parts : bool
        Whether the source has a split.
    classes : tuple of str
        All labels that count, in order; empty to take those that occur.
    faults : tuple of Fault
        What the reader found.
    """

    source: str
    root: Path
    rows: tuple[Row, ...]
    columns: frozenset[str] = frozenset()
    has_parts: bool = False
    classes: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()


def part_named(text: str) -> str | None:
    """Return ``"train"``, ``"val"`` or ``"test"``; None for another word."""
    return _PART_NAMES.get(text.strip().lower())


def missing_as_empty(value: object) -> str:
    """Return a cell as text: empty where it is missing, and whole numbers without a decimal point."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip()
    return "" if text.lower() in _MISSING else text

"""From a source of files to records: its table is read, all of it checked, its images decoded or cached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedrobust.data.ingest.cache import Cached, cached_images
from fedrobust.data.ingest.check import Check, ordered
from fedrobust.data.ingest.faults import settle
from fedrobust.data.ingest.folder import read_folder
from fedrobust.data.ingest.manifest import ManifestOptions, read_manifest
from fedrobust.data.ingest.paths import Finder, FoundFile
from fedrobust.data.ingest.pixels import How
from fedrobust.data.ingest.reading import Item
from fedrobust.data.ingest.table import Row, Table, part_named
from fedrobust.data.records import Records
from fedrobust.errors import UserError

__all__ = ["DEFAULT_SIDE", "FileSource", "FolderSource", "ManifestSource", "checked_records"]

#: Pixels along a side of images from files, whose own sizes differ, unless `image_size` says another number.
DEFAULT_SIDE = 64

_Words = tuple[str | int, ...]
_Channels = Literal[0, 1, 3]
_Slices = Annotated[int, Field(ge=1, le=1000)] | tuple[int, ...]
_Axis = Literal[0, 1, 2]


@dataclass(frozen=True)
class FileSource:
    """What all sources of files can be told.

    Parameters
    ----------
    classes : tuple of str
        All labels that count, in order; none to take those that occur.
    channels : int
        1 for grey, 3 for RGB; 0 for grey where all images are.
    slices : int or tuple of int
        Of a volume or of several frames: so many, evenly spaced, or those of these numbers.
    axis : int
        The axis that slices of a volume stand on: 0 from left to right, 1 from back to front, 2 from feet to
        head.
    window : tuple of float
        The values that become black and white in images of more than 8 bits, such as (-1000, 400).
    """

    classes: _Words = ()
    channels: _Channels = 0
    slices: _Slices = 1
    axis: _Axis = 2
    window: tuple[float, float] | None = None

    def load(self, path: Path, bases: Sequence[Path], side: int | None, *, skip_bad: bool) -> Records:
        """Return the records of a source at a path.

        Parameters
        ----------
        path : Path
        bases : sequence of Path
            Other folders that its files may lie in.
        side : int or None
            Height and width of the images, in pixels; None for `DEFAULT_SIDE`.
        skip_bad : bool

        Raises
        ------
        UserError
            If it cannot be read, or has faults that are not to be skipped.
        """
        raise NotImplementedError

    def how(self, side: int | None) -> How:
        """Return how files are decoded."""
        slices = self.slices if isinstance(self.slices, int) else tuple(self.slices)
        return How(side or DEFAULT_SIDE, self.channels, slices, self.axis, self.window)

    def names(self) -> tuple[str, ...]:
        """Return the classes as texts."""
        return tuple(str(name) for name in self.classes)


@dataclass(frozen=True)
class FolderSource(FileSource):
    """A folder of class folders; see `read_folder` for `levels`."""

    levels: str = ""

    def load(self, path: Path, bases: Sequence[Path], side: int | None, *, skip_bad: bool) -> Records:
        """Return the records of the images below a folder."""
        table = read_folder(path, f"folder:{path.name}", self.levels)
        return _records(table, [path, *bases], self.names(), self.how(side), skip_bad=skip_bad)


@dataclass(frozen=True)
class ManifestSource(FileSource):
    """A table of images; options named as columns say what the file calls them. See `ManifestOptions`."""

    path: str = ""
    label: str = ""
    hospital: str = ""
    site: str = ""
    patient: str = ""
    sex: str = ""
    view: str = ""
    age: str = ""
    split: str = ""
    fold: str = ""
    join: str = ""
    on: str = ""

    def load(self, path: Path, bases: Sequence[Path], side: int | None, *, skip_bad: bool) -> Records:
        """Return the records of the images that a manifest lists."""
        names = ("path", "label", "hospital", "site", "patient", "sex", "view", "age", "split", "fold")
        columns = {name: value for name in names if (value := getattr(self, name))}
        options = ManifestOptions(columns, self.join, self.on, self.names())
        table = read_manifest(path, f"manifest:{path.name}", options)
        return _records(table, [path.parent, *bases], self.names(), self.how(side), skip_bad=skip_bad)


def _records(
    table: Table, folders: Sequence[Path], classes: tuple[str, ...], how: How, *, skip_bad: bool
) -> Records:
    """Return the records of a table whose rows name files inside these folders.

    Raises
    ------
    FaultyRecords
        Naming every record that cannot be used, unless they are to be skipped.
    UserError
        If no record is left.
    """
    check = Check(table, classes)
    finder = Finder(folders)
    found: list[int] = []
    items: list[Item] = []
    first: dict[str, Row] = {}
    for number, row in enumerate(table.rows):
        file = check.file(number, finder)
        if file is None:
            continue
        if (same := first.setdefault(file.path, row)) is not row:
            check.add(number, "duplicate path", f"the same file as {same.where or same.path}")
            continue
        found.append(number)
        items.append(_item(file))
    return checked_records(table, check, found, items, how, skip_bad=skip_bad)


def _item(file: FoundFile) -> Item:
    path, status = file
    return Item(path, (status.st_size, status.st_mtime_ns, status.st_ctime_ns), status.st_size)


def checked_records(
    table: Table, check: Check, found: list[int], items: list[Item], how: How, *, skip_bad: bool
) -> Records:
    """Return the records of those rows whose files were found, decoded.

    Parameters
    ----------
    table : Table
    check : Check
        With the faults so far.
    found : list of int
        The rows whose files were found.
    items : list of Item
        Their files.
    how : How
    skip_bad : bool
    """
    cached = cached_images(items, how, table.source)
    for place, (kind, sentence) in cached.faults.items():
        check.add(found[place], kind, sentence)
    check.rows()
    settle(table.source, check.report(), len(table.rows), skip=skip_bad)
    good = np.array([number not in check.bad for number in found], bool)
    kept = np.flatnonzero(good[cached.item]) if len(found) else np.zeros(0, np.int64)
    if not len(kept):
        raise UserError(f"{table.source}: no record is left that can be used; correct the faults above")
    rows = [table.rows[found[item]] for item in cached.item[kept]]
    labels = [row.label for row in rows]
    classes = check.classes or ordered(set(labels))
    number_of = {name: number for number, name in enumerate(classes)}
    # A view of the memory map where every image counts.
    images = cached.images if len(kept) == len(cached.images) else cached.images[kept]
    return Records(
        images=images,
        labels=np.array([number_of[label] for label in labels], np.int64),
        classes=classes,
        facts=_facts(table, rows, cached, kept),
        parts=np.array([part_named(row.part) or "" for row in rows]) if table.has_parts else None,
        source=table.source,
    )


def _facts(
    table: Table, rows: Sequence[Row], cached: Cached, kept: NDArray[np.int64]
) -> Mapping[str, NDArray[np.str_]]:
    """Return the columns of facts; slices of one file are of one patient, whatever the table says."""
    facts = {name: np.array([row.facts.get(name, "") for row in rows]) for name in sorted(table.columns)}
    facts["file"] = np.array([row.path for row in rows])
    facts["content"] = np.array([cached.content[item] for item in cached.item[kept]])
    frames = cached.frame[kept]
    if frames.any():
        facts["frame"] = frames.astype(np.str_)
    if len(np.unique(cached.item[kept])) < len(kept):
        patient = facts.get("patient", np.full(len(rows), ""))
        facts["patient"] = np.where(patient == "", facts["file"], patient)
    return facts

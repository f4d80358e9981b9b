"""The table of a folder of class folders."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

from fedrobust.data.ingest.faults import Fault
from fedrobust.data.ingest.table import Row, Table, part_named
from fedrobust.errors import UserError

__all__ = ["IMAGE_ENDINGS", "read_folder"]

#: What the decoder opens; other files in a folder of images, such as notes, are not its records.
IMAGE_ENDINGS = (
    ".png",
    ".jpg",
    ".jpeg",
    ".tif",
    ".tiff",
    ".bmp",
    ".webp",
    ".gif",
    ".pgm",
    ".ppm",
    ".dcm",
    ".dicom",
    ".nii",
    ".nii.gz",
)

_LEVELS = ("part", "site", "class", "patient")


def read_folder(path: Path, source: str, levels: str = "") -> Table:
    """Return the table of a folder of images.

    Parameters
    ----------
    path : Path
    source : str
        Its name in reports.
    levels : str
        What the folders stand for from the top, such as ``"site/class"``, of ``part``, ``site``, ``class``
        and ``patient``. Not given: folders named train, val or test are parts; of two levels below, the upper
        one names sites where the same classes stand in several of its folders, and classes where the lower
        ones differ (patients).

    Raises
    ------
    UserError
        If it is no folder, has no images, or its levels cannot be told apart.
    """
    if not path.is_dir():
        raise UserError(f"data '{source}': there is no folder {path}; name the one with the class folders")
    files = sorted(_images(path))
    if not files:
        raise UserError(f"data '{source}': no image lies in {path}; name the folder with the class folders")
    named = _given(levels, source) if levels else _guessed(files, source)
    rows, faults = [], []
    for file in files:
        folders = file.split("/")[:-1]
        if len(folders) < len(named):
            what = f"the file does not lie in {'/'.join(named)} folders"
            faults.append(Fault(what, file, "file in another place"))
            continue
        known = dict(zip(named, folders, strict=False))
        facts: dict[str, str] = {name: known[name] for name in ("site", "patient") if name in known}
        rows.append(Row(file, known["class"], "", facts, known.get("part", "")))
    columns = frozenset({"site", "patient"} & set(named))
    return Table(source, path, tuple(rows), columns, "part" in named, faults=tuple(faults))


def _images(top: Path) -> list[str]:
    """Return the paths of the images below a folder; links to folders and hidden files are left out."""
    found = []
    for folder, inner, files in os.walk(top):
        inner[:] = [name for name in inner if not name.startswith(".")]
        below = Path(folder).relative_to(top).as_posix()
        start = "" if below == "." else below + "/"
        found += [
            start + file
            for file in files
            if file.lower().endswith(IMAGE_ENDINGS) and not file.startswith(".")
        ]
    return found


def _given(levels: str, source: str) -> tuple[str, ...]:
    named = tuple(level.strip() for level in levels.split("/"))
    if set(named) - set(_LEVELS) or len(set(named)) < len(named) or "class" not in named:
        raise UserError(
            f"data '{source}': levels='{levels}' must name each of {', '.join(_LEVELS)} at most once, and "
            f"class; such as levels='site/class'"
        )
    return named


def _guessed(files: list[str], source: str) -> tuple[str, ...]:
    """Return what the folders stand for, by their names and by which of them repeat."""
    paths = [file.split("/")[:-1] for file in files]
    parts: tuple[str, ...] = ()
    if all(path and part_named(path[0]) for path in paths):
        parts, paths = ("part",), [path[1:] for path in paths]
    depth = min(len(path) for path in paths)
    if depth == 0:
        raise UserError(
            f"data '{source}': some images lie in no class folder; give each class a folder, or list the "
            f"images in a table: manifest:FILE"
        )
    if depth == 1:
        return (*parts, "class")
    inner: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        inner[path[0]].add(path[1])
    shared = {name for name in set().union(*inner.values()) if sum(name in own for own in inner.values()) > 1}
    below = ("site", "class") if shared else ("class", "patient")
    return (*parts, *below)

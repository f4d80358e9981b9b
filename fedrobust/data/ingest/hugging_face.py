"""A Hugging Face data set on disk, as ``Dataset.save_to_disk`` writes it."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedrobust.data.ingest.check import Check
from fedrobust.data.ingest.load import FileSource, checked_records
from fedrobust.data.ingest.reading import Item
from fedrobust.data.ingest.table import FACTS, Row, Table, missing_as_empty
from fedrobust.data.records import Records
from fedrobust.errors import UserError

__all__ = ["HuggingFaceSource"]


@dataclass(frozen=True)
class HuggingFaceSource(FileSource):
    """A data set with a column of images and one of labels; its splits are the parts.

    Parameters
    ----------
    image, label, hospital, patient, sex, view, age : str
        What the data set calls these columns, where it has other names.
    """

    image: str = "image"
    label: str = "label"
    hospital: str = ""
    patient: str = ""
    sex: str = ""
    view: str = ""
    age: str = ""

    def load(self, path: Path, bases: Sequence[Path], side: int | None, *, skip_bad: bool) -> Records:
        """Return the records of a data set; see `FileSource.load`."""
        source = f"hf:{path.name}"
        rows, items, columns, classes = [], [], frozenset[str](), self.names()
        splits = _splits(path, source)
        stamp = _stamp(path)
        lock = threading.Lock()
        for part, dataset in splits.items():
            columns = frozenset(self._columns(dataset, source))
            classes = classes or tuple(getattr(dataset.features[self.label], "names", None) or ())
            images = dataset.select_columns([self.image])
            for number, (label, facts) in enumerate(self._cells(dataset, source)):
                where = f"{part} row {number}" if part else f"row {number}"
                rows.append(Row(where, label, "", facts, part))
                read = functools.partial(_content, images, self.image, number, lock)
                items.append(Item(f"{path}#{part}#{number}", stamp, 0, read))
        table = Table(source, path, tuple(rows), columns, "" not in splits, classes)
        check = Check(table, classes)
        return checked_records(table, check, list(range(len(rows))), items, self.how(side), skip_bad=skip_bad)

    def _columns(self, dataset: Any, source: str) -> dict[str, str]:
        """Return the data set's name of each fact that it has."""
        given = {"site": self.hospital, "patient": self.patient, "sex": self.sex, "view": self.view}
        given |= {"age": self.age}
        has = dataset.column_names
        for column in (self.image, self.label, *given.values()):
            if column and column not in has:
                raise UserError(
                    f"data '{source}': there is no column '{column}'; the columns are {', '.join(has)}: say "
                    f"which one it is, such as (label=NAME)"
                )
        usual = {fact: fact for fact in FACTS} | ({"site": "hospital"} if "hospital" in has else {})
        names = {fact: given.get(fact) or name for fact, name in usual.items()}
        return {fact: name for fact, name in names.items() if name in has}

    def _cells(self, dataset: Any, source: str) -> list[tuple[str, dict[str, str]]]:
        """Return each row's label and facts."""
        facts = self._columns(dataset, source)
        names = getattr(dataset.features[self.label], "names", None)
        table = dataset.select_columns([self.label, *facts.values()]).to_dict()
        labels = [
            names[value] if names and isinstance(value, int) and 0 <= value < len(names) else value
            for value in table[self.label]
        ]
        return [
            (
                missing_as_empty(label),
                {fact: missing_as_empty(table[name][number]) for fact, name in facts.items()},
            )
            for number, label in enumerate(labels)
        ]


def _splits(path: Path, source: str) -> dict[str, Any]:
    """Return the data set's splits by name; one without splits stands under an empty name."""
    import datasets

    if not path.is_dir():
        raise UserError(f"data '{source}': there is no folder {path}; name one that save_to_disk wrote")
    try:
        found = datasets.load_from_disk(str(path))
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(
            f"data '{source}': {path} is no data set that save_to_disk wrote ({reason})"
        ) from error
    splits = dict(found) if isinstance(found, datasets.DatasetDict) else {"": found}
    return {part: _undecoded(dataset, datasets) for part, dataset in splits.items()}


def _undecoded(dataset: Any, datasets: Any) -> Any:
    """Return a data set whose images stay bytes, so that they are decoded as all others are."""
    for name, feature in dataset.features.items():
        if isinstance(feature, datasets.Image):
            dataset = dataset.cast_column(name, datasets.Image(decode=False))
    return dataset


def _content(images: Any, column: str, number: int, lock: threading.Lock) -> bytes:
    with lock:
        found = images[number][column]
    content = found.get("bytes") if isinstance(found, dict) else None
    if not content:
        raise OSError(0, "the data set holds a path in place of the image; embed the images when you save it")
    return bytes(content)


def _stamp(path: Path) -> tuple[int, ...]:
    """Return sizes and times of the data set's files."""
    found = [file.stat() for file in sorted(path.rglob("*.arrow"))]
    return tuple(number for one in found for number in (one.st_size, one.st_mtime_ns))

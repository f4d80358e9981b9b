"""Features in place of images: embeddings of a foundation model, or columns of a table.

Each column is scaled to 256 levels, so that everything that takes images takes features as well: an "image"
of one row. A level is at most 0.4 % of a column's range, far below what embeddings of two patients differ by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.archive import read_arrays
from fedrobust.data.ingest.check import Check, ordered
from fedrobust.data.ingest.faults import settle
from fedrobust.data.ingest.table import FACTS, Row, Table, missing_as_empty, part_named
from fedrobust.data.records import Records
from fedrobust.errors import UserError

__all__ = ["FeatureSource"]

#: Percent of a column's values below its lowest level and above its highest: one wild value would leave the
#: rest in a few levels.
_TAIL = 0.5

#: What arrays and columns are called, beside the names of `FACTS`.
_NAMES = {
    "features": ("features", "embeddings", "x"),
    "label": ("label", "labels", "y"),
    "site": ("hospital", "site"),
    "split": ("split",),
}


@dataclass(frozen=True)
class FeatureSource:
    """A file of features: .npz, .csv, .tsv or .parquet.

    Parameters
    ----------
    label, hospital, patient, sex, age, split : str
        What the file calls these columns, where it has other names.
    drop : str
        Columns that are no features, with ``;`` between them.
    classes : tuple of str
        All labels that count, in order; none to take those that occur.
    range : tuple of float
        The values that become the lowest and the highest level, for all columns alike. Hospitals that bring
        data of their own need the same; without it each column's own range counts.
    """

    label: str = ""
    hospital: str = ""
    patient: str = ""
    sex: str = ""
    age: str = ""
    split: str = ""
    drop: str = ""
    classes: tuple[str | int, ...] = ()
    range: tuple[float, float] | None = None

    def load(self, path: Path, bases: Sequence[Path], side: int | None, *, skip_bad: bool) -> Records:
        """Return the records of a file of features; see `FileSource.load`."""
        source = f"features:{path.name}"
        if side is not None:
            raise UserError(f"data '{source}': features have no image size; leave --image-size out")
        if not path.is_file():
            raise UserError(f"data '{source}': there is no file {path}; name the table of the features")
        columns = _arrays(path, source) if path.suffix.lower() == ".npz" else _table(path, source)
        known = self._known(columns, source)
        taken = {*known.values(), *(name.strip() for name in self.drop.split(";"))}
        values = _values({name: cells for name, cells in columns.items() if name not in taken}, source)
        texts = {
            name: list(map(missing_as_empty, columns[column].tolist())) for name, column in known.items()
        }
        return self._records(source, texts, values, skip_bad=skip_bad)

    def _known(self, columns: Mapping[str, NDArray[np.generic]], source: str) -> dict[str, str]:
        """Return the file's name of each known column that it has."""
        plain = {name.strip().lower(): name for name in columns}
        given = {"label": self.label, "site": self.hospital, "patient": self.patient, "sex": self.sex}
        given |= {"age": self.age, "split": self.split}
        known = {}
        for name in ("label", "split", *FACTS):
            wanted = given.get(name) or next((n for n in _NAMES.get(name, (name,)) if n in plain), "")
            wanted = plain.get(wanted.lower(), wanted)
            if wanted in columns:
                known[name] = wanted
            elif given.get(name) or name == "label":
                have = ", ".join(list(columns)[:10])
                raise UserError(
                    f"data '{source}': there is no column '{wanted or name}'; the columns are {have}: say "
                    f"which one it is, such as ({name}=NAME)"
                )
        return known

    def _records(
        self,
        source: str,
        texts: Mapping[str, list[str]],
        values: NDArray[np.float64],
        *,
        skip_bad: bool,
    ) -> Records:
        facts = [name for name in FACTS if name in texts]
        labels = texts["label"]
        rows = tuple(
            Row(
                "",
                label,
                f"row {number + 1}",
                {name: texts[name][number] for name in facts},
                texts["split"][number] if "split" in texts else "",
            )
            for number, label in enumerate(labels)
        )
        table = Table(source, Path(), rows, frozenset(facts), "split" in texts)
        check = Check(table, tuple(str(name) for name in self.classes))
        finite = np.isfinite(values).all(axis=1)
        for number in np.flatnonzero(~finite):
            check.add(int(number), "missing value", "a feature is missing or infinite")
        check.rows()
        settle(source, check.report(), len(rows), skip=skip_bad)
        kept = np.array([number for number in range(len(rows)) if number not in check.bad], np.int64)
        if not len(kept):
            raise UserError(f"{source}: no record is left that can be used; correct the faults above")
        classes = check.classes or ordered({labels[number] for number in kept})
        levels = self._levels(values[kept])
        return Records(
            images=levels[:, None, None, :],
            labels=np.array([classes.index(labels[number]) for number in kept], np.int64),
            classes=classes,
            facts={name: np.array([texts[name][number] for number in kept]) for name in facts},
            parts=np.array([part_named(texts["split"][n]) for n in kept]) if "split" in texts else None,
            source=source,
            pixels=False,
        )

    def _levels(self, values: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Return features as levels 0 to 255."""
        if self.range is not None:
            low, high = (np.full(values.shape[1], bound) for bound in self.range)
        else:
            low, high = np.percentile(values, (_TAIL, 100 - _TAIL), axis=0)
            rare = high <= low  # such as a finding that one patient in a thousand has
            low, high = np.where(rare, values.min(0), low), np.where(rare, values.max(0), high)
        span = np.where(high > low, high - low, 1.0)
        levels: NDArray[np.uint8] = np.rint(np.clip((values - low) / span, 0, 1) * 255).astype(np.uint8)
        return levels


def _arrays(path: Path, source: str) -> dict[str, NDArray[np.generic]]:
    """Return the columns of an .npz file; its features stand under their numbers."""
    names = [name for words in _NAMES.values() for name in words]
    found = read_arrays(path, {*names, *(name.upper() for name in names), *FACTS})
    found = {name.lower(): array for name, array in found.items()}
    features = next((found.pop(name) for name in _NAMES["features"] if name in found), None)
    if features is None or features.ndim != 2 or features.dtype.kind not in "fiub":
        raise UserError(
            f"data '{source}': {path.name} needs the array 'features' of shape (n, columns), 'labels' of "
            f"shape (n,), and may have 'hospital' and others"
        )
    columns: dict[str, NDArray[np.generic]] = {
        name: array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
        for name, array in found.items()
    }
    if wrong := [name for name, array in columns.items() if array.shape != (len(features),)]:
        raise UserError(
            f"data '{source}': {wrong[0]} has the shape {columns[wrong[0]].shape}, but there are "
            f"{len(features)} rows of features; give one value for each"
        )
    return columns | {f"feature {number}": column for number, column in enumerate(features.T)}


def _table(path: Path, source: str) -> dict[str, NDArray[np.generic]]:
    """Return the columns of a table."""
    import pandas

    ending = path.suffix.lower()
    try:
        if ending in (".parquet", ".pq"):
            table = pandas.read_parquet(path)
        elif ending in (".csv", ".tsv"):
            table = pandas.read_csv(path, sep=None, engine="python", encoding="utf-8-sig")
        else:
            raise UserError(f"data '{source}': {path.name} must end in .npz, .csv, .tsv or .parquet")
    except UserError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(f"data '{source}': {path.name} cannot be read as a table ({reason})") from error
    return {str(name): table[name].to_numpy() for name in table.columns}


def _values(columns: Mapping[str, NDArray[np.generic]], source: str) -> NDArray[np.float64]:
    """Return the features, shape (n, columns)."""
    texts = [name for name, column in columns.items() if column.dtype.kind not in "fiub"]
    if texts:
        raise UserError(
            f"data '{source}': the columns {', '.join(texts[:5])} hold texts, so they are no features; leave "
            f"them out, such as (drop='{';'.join(texts[:5])}')"
        )
    if not columns:
        raise UserError(f"data '{source}': there is no column of features; add columns of numbers")
    return np.stack([column.astype(np.float64) for column in columns.values()], axis=1)

"""Data sources by name, and the federation's data made from one: split, dealt out, and hashed."""

from __future__ import annotations

import difflib
import importlib
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.duplicates import Duplicates, duplicates
from fedrobust.data.limits import LARGEST_SIDE
from fedrobust.data.long_tail import long_tailed
from fedrobust.data.medmnist import load as load_medmnist
from fedrobust.data.partition import partition
from fedrobust.data.phantom import phantom
from fedrobust.data.records import Records
from fedrobust.data.site_tests import with_site_tests
from fedrobust.data.spec import DataSpec
from fedrobust.data.split import Split, official, pooled
from fedrobust.errors import UserError, nearest
from fedrobust.plugins import instantiate
from fedrobust.plugins.specs import FIRST_OPTION

if TYPE_CHECKING:
    from fedrobust.data.ingest.load import FileSource

__all__ = ["SOURCES", "FederationData", "adopt", "load_records", "prepare"]

_KEPT = 2

#: Pixels that are resized at once: a gigabyte as floats.
_PIXELS_AT_ONCE = 1 << 28

#: What a file's name has no use for: a step into another folder, or the end of a C string.
_LEAVES_FOLDER = re.compile(r"[/\\\0]|^\.\.?$|^.{200}", re.DOTALL)

_prepared: dict[DataSpec, FederationData] = {}

#: Each data source with a line for `fedrobust list`.
SOURCES = {
    "phantom": "synthetic chest radiographs drawn by a seeded generator; six findings; no patient's data",
    "medmnist:NAME": "NAME.npz in MedMNIST's layout from --data-root, published by MedMNIST or not",
    "folder:PATH": "images in class folders, also below folders of parts (train, val, test) or sites",
    "hf:PATH": "a Hugging Face data set on disk, with a column of images and one of labels",
    "features:FILE": "embeddings or tabular columns in place of images (.npz, .csv, .parquet); for mlp",
    "manifest:FILE": "images that a CSV, TSV, JSON lines or Parquet table lists: path, label, hospital, ...",
}

#: Sources of files, each with the module in `ingest` and the class that has its options.
_OF_FILES = {
    "folder": ("load", "FolderSource"),
    "manifest": ("load", "ManifestSource"),
    "hf": ("hugging_face", "HuggingFaceSource"),
    "features": ("features", "FeatureSource"),
}


@dataclass(frozen=True)
class FederationData:
    """All the records of a federation, and which hospital holds which.

    Attributes
    ----------
    records : Records
        Everything, in the source's order.
    split : Split
        Positions for training, validation and test; the last two stay with the server.
    hospitals : tuple of ndarray of int64
        Positions of the training records that each hospital holds.
    digest : str
        SHA-256 of the records.
    site_tests : tuple of ndarray of int64
        Positions of the records that each hospital tests on; none unless asked for.
    """

    records: Records
    split: Split
    hospitals: tuple[NDArray[np.int64], ...]
    digest: str
    site_tests: tuple[NDArray[np.int64], ...] = ()

    @cached_property
    def duplicates(self) -> Duplicates:
        """Return how many images stand in several parts or hospitals."""
        return duplicates(self.records, self.split, self.hospitals)

    def of_hospital(self, number: int) -> Records:
        """Return one hospital's training records, without a copy where they stand one after another."""
        positions = self.hospitals[number]
        if len(positions) and (np.diff(positions) == 1).all():
            return self.records.take(slice(int(positions[0]), int(positions[-1]) + 1))
        return self.records.take(positions)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Return each hospital's number of training records."""
        return np.array([len(positions) for positions in self.hospitals], np.int64)

    def part(self, name: str) -> Records:
        """Return the server's ``"val"`` or ``"test"`` records."""
        return self.records.take(getattr(self.split, name))


def load_records(spec: DataSpec) -> Records:
    """Return the records of the source that a specification names, resized if it says so.

    Raises
    ------
    UserError
        If there is no such source or its data cannot be read.
    """
    source = spec.source
    kind, _, dataset = source.name.partition(":")
    if kind == "phantom" and not dataset:
        if FIRST_OPTION in source.options:
            raise UserError(f"data '{source.text}': name the option, such as phantom(images=3000)")
        size = {} if spec.image_size is None else {"size": spec.image_size}
        options = {**size, **source.options}
        return _checked_classes(cast(Records, instantiate(phantom, options, "phantom")))
    if kind in _OF_FILES:
        return _checked_classes(_from_files(kind, dataset, spec))
    if kind != "medmnist":
        raise UserError(f"unknown data source '{source.text}'; {_meant(spec)}")
    label = source.options.get("label", "")
    if source.options.keys() - {"label"} or not isinstance(label, str | int):
        raise UserError(
            f"data '{source.text}': medmnist takes no options but label=NAME, one finding of a set with "
            f"several; write medmnist:NAME"
        )
    if not dataset:
        raise UserError(
            "data 'medmnist' needs the file's name: medmnist:pneumoniamnist reads pneumoniamnist.npz"
        )
    if _LEAVES_FOLDER.search(dataset):
        raise UserError(f"data '{source.text}' must name a file in --data-root itself, without its folder")
    if spec.root is None and not spec.download:
        raise UserError(f"data '{source.text}' needs --data-root, the folder that holds {dataset}.npz")
    root = Path(spec.root) if spec.root else Path.home() / ".medmnist"
    return _checked_side(
        _checked_classes(_resized(load_medmnist(dataset, root, spec.download, str(label)), spec.image_size))
    )


def _from_files(kind: str, place: str, spec: DataSpec) -> Records:
    """Return the records of a source of files; a path starts in the working folder or in --data-root."""
    if not place:
        raise UserError(f"data '{kind}' needs a path: {kind}:PATH")
    module, name = _OF_FILES[kind]
    # Late: they import decoders.
    made = getattr(importlib.import_module(f"fedrobust.data.ingest.{module}"), name)
    source: FileSource = instantiate(made, spec.source.options, kind)
    path = Path(place).expanduser()
    if spec.root is not None and not path.is_absolute() and not path.exists():
        path = Path(spec.root) / path
    bases = [] if spec.root is None else [Path(spec.root)]
    return source.load(path.absolute(), bases, spec.image_size, skip_bad=spec.skip_bad)


def _meant(spec: DataSpec) -> str:
    """Return what a name that is no data source may have been meant for."""
    name = spec.source.name
    kind, _, dataset = name.partition(":")
    if difflib.get_close_matches(kind, ["phantom", "medmnist"], cutoff=0.75):
        return nearest(kind, ["phantom", "medmnist" if dataset else "medmnist:NAME"])
    if dataset:
        return f"known: {', '.join(SOURCES)}"
    if spec.root is not None and (Path(spec.root) / f"{name}.npz").is_file():
        return f"did you mean 'medmnist:{name}'?"
    return f"the file {name}.npz in --data-root is named medmnist:{name}; synthetic images are named phantom"


def _checked_classes(records: Records) -> Records:
    if len(records.classes) < 2:
        raise UserError(f"{records.source}: all images are of one class; a classifier needs at least 2")
    return records


def _checked_side(records: Records) -> Records:
    height, width = records.images.shape[2:]
    if max(height, width) > LARGEST_SIDE:
        raise UserError(
            f"{records.source}: the images have {width} x {height} pixels, more than {LARGEST_SIDE} along a "
            f"side; give --image-size, such as 224"
        )
    return records


def _resized(records: Records, side: int | None) -> Records:
    """Scale the images to side x side pixels, with antialiasing."""
    if side is None or records.images.shape[2:] == (side, side):
        return records
    import torch
    from torch.nn.functional import interpolate

    chunks = []
    at_once = max(1, min(1024, _PIXELS_AT_ONCE // int(np.prod(records.images.shape[1:]))))
    for start in range(0, len(records), at_once):
        block = torch.tensor(records.images[start : start + at_once]).float()
        scaled = interpolate(block, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
        chunks.append(scaled.round().clamp(0, 255).byte().numpy())
    return replace(records, images=np.concatenate(chunks))


def prepare(spec: DataSpec) -> FederationData:
    """Return the federation's data; a process keeps the last few it made.

    Raises
    ------
    UserError
        If the data cannot be read, split or dealt out as asked.
    """
    if spec not in _prepared:
        while len(_prepared) >= _KEPT:
            del _prepared[next(iter(_prepared))]
        _prepared[spec] = _make(spec)
    return _prepared[spec]


def adopt(spec: DataSpec, data: FederationData) -> None:
    """Let `prepare` return these data for this specification, made in another process."""
    _prepared[spec] = data


def _make(spec: DataSpec) -> FederationData:
    records = load_records(spec)
    split = official(records, spec.seed) if spec.split == "official" else pooled(records, spec.seed)
    for name in ("train", "val", "test"):
        if not len(getattr(split, name)):
            raise UserError(
                f"{records.source}: {len(records)} images leave none for the {name} part; use more images"
            )
    split = long_tailed(split, records.labels, spec.imbalance, spec.seed)
    hospitals = partition(records, split.train, spec.partition, spec.hospitals, spec.seed)
    tests: tuple[NDArray[np.int64], ...] = ()
    if spec.site_tests:
        hospitals, tests = with_site_tests(records, hospitals, spec.seed)
    return FederationData(records, split, hospitals, records.digest(), tests)

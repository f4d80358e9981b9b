"""What the records of a federation are: counts, missing values, intensities, how unlike hospitals are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.records import Records
from fedrobust.data.sources import FederationData

__all__ = ["Counts", "Description", "Intensities", "Missing", "divergence", "effective_classes"]

#: Facts that have few values, whose label distributions are shown.
_GROUPED = ("sex", "view")

#: Facts whose missing values are counted.
_COUNTED = ("site", "patient", "sex", "view", "age")


@dataclass(frozen=True)
class Counts:
    """How many images of each class each of several groups has.

    Attributes
    ----------
    by : str
        What the groups are: ``"part"``, ``"hospital"``, ``"sex"`` or ``"view"``.
    groups : tuple of str
    images : tuple of tuple of int
        One row a group, one column a class.
    """

    by: str
    groups: tuple[str, ...]
    images: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Missing:
    """How often a fact is missing, by class.

    Attributes
    ----------
    fact : str
    images : int
        Without it.
    by_class : tuple of int
    """

    fact: str
    images: int
    by_class: tuple[int, ...]


@dataclass(frozen=True)
class Intensities:
    """Grey levels of a hospital's images, 0 to 255: mean, and mean of each image's standard deviation.

    Attributes
    ----------
    hospital : str
    images : int
    mean, contrast : float
    darkest, brightest : float
        The 5 % and 95 % quantiles of the images' means.
    """

    hospital: str
    images: int
    mean: float
    contrast: float
    darkest: float
    brightest: float


@dataclass(frozen=True)
class Description:
    """What the records of a federation are.

    Attributes
    ----------
    source : str
    images : int
    shape : tuple of int
        Channels, height and width.
    classes : tuple of str
    patients : int or None
        None where the source names none.
    counts : tuple of Counts
    missing : tuple of Missing
    intensities : tuple of Intensities
    divergence : float or None
        Mean Jensen-Shannon divergence, in bits, of two hospitals' label distributions: 0 where all are alike,
        1 where no two have a class in common. None with one hospital.
    effective_classes : float
        Mean over hospitals of exp(entropy) of the label distribution: K where all classes are as common.
    duplicates_across_parts, duplicates_across_hospitals : int
        See `fedrobust.data.duplicates.Duplicates`.
    """

    source: str
    images: int
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    patients: int | None
    counts: tuple[Counts, ...]
    missing: tuple[Missing, ...]
    intensities: tuple[Intensities, ...]
    divergence: float | None
    effective_classes: float
    duplicates_across_parts: int
    duplicates_across_hospitals: int

    @classmethod
    def of(cls, data: FederationData) -> Description:
        """Return the description of a federation's data."""
        records = data.records
        names = hospital_names(data)
        parts = {name: getattr(data.split, name) for name in ("train", "val", "test")}
        hospitals = dict(zip(names, data.hospitals, strict=True))
        counts = [_counts("part", records, parts), _counts("hospital", records, hospitals)]
        for fact in _GROUPED:
            values = records.facts.get(fact)
            if values is not None:
                groups = {
                    value or "(missing)": np.flatnonzero(values == value) for value in np.unique(values)
                }
                counts.append(_counts(fact, records, groups))
        table = np.array(counts[1].images, np.float64)
        patients = records.facts.get("patient")
        return cls(
            source=records.source,
            images=len(records),
            shape=tuple(records.images.shape[1:]),
            classes=records.classes,
            patients=None if patients is None else len(set(patients.tolist()) - {""}),
            counts=tuple(counts),
            missing=tuple(_missing(records, fact) for fact in _COUNTED if fact in records.facts),
            intensities=tuple(_intensities(name, records, index) for name, index in hospitals.items()),
            divergence=divergence(table),
            effective_classes=effective_classes(table),
            duplicates_across_parts=data.duplicates.parts,
            duplicates_across_hospitals=data.duplicates.hospitals,
        )


def divergence(counts: NDArray[np.float64]) -> float | None:
    """Return the mean Jensen-Shannon divergence, in bits, of all pairs of rows; None for a single row."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    found = [
        float(_entropy((one + other) / 2) - (_entropy(one) + _entropy(other)) / 2)
        for one, other in combinations(shares, 2)
    ]
    return max(0.0, float(np.mean(found))) / np.log(2) if found else None


def effective_classes(counts: NDArray[np.float64]) -> float:
    """Return the mean over rows of exp(entropy of the row's shares)."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return float(np.mean([np.exp(_entropy(one)) for one in shares]))


def hospital_names(data: FederationData) -> tuple[str, ...]:
    """Return each hospital's site where all its images are of one, with its number otherwise."""
    sites = data.records.facts.get("site")
    names = []
    for number, index in enumerate(data.hospitals):
        own = set() if sites is None else set(sites[index].tolist())
        names.append(f"{number} ({own.pop()})" if len(own) == 1 and own != {""} else str(number))
    return tuple(names)


def _entropy(shares: NDArray[np.float64]) -> float:
    held = shares[shares > 0]
    return float(-(held * np.log(held)).sum())


def _counts(by: str, records: Records, groups: Mapping[str, NDArray[np.int64]]) -> Counts:
    rows = [records.labels[index] for index in groups.values()]
    k = len(records.classes)
    images: Sequence[list[int]] = [np.bincount(labels, minlength=k).tolist() for labels in rows]
    return Counts(by, tuple(map(str, groups)), tuple(tuple(row) for row in images))


def _missing(records: Records, fact: str) -> Missing:
    lacking = records.labels[records.facts[fact] == ""]
    by_class = np.bincount(lacking, minlength=len(records.classes))
    return Missing(fact, len(lacking), tuple(by_class.tolist()))


def _intensities(name: str, records: Records, index: NDArray[np.int64]) -> Intensities:
    means, spreads = np.empty(len(index)), np.empty(len(index))
    for place, record in enumerate(index):
        image = records.images[record]
        means[place], spreads[place] = image.mean(), image.std()
    darkest, brightest = np.quantile(means, [0.05, 0.95])
    return Intensities(
        name, len(index), float(means.mean()), float(spreads.mean()), float(darkest), float(brightest)
    )

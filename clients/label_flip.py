"""Label flipping: images stay unchanged and get wrong labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt

from fedrobust.data.choice import check_class, class_distances, pick
from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.federation import Attack
from fedrobust.plugins.options import Fraction

__all__ = ["LabelFlip"]

#: Each mode with the options that belong to it.
_MODES = {"all": {"shift"}, "pairwise": {"source", "target"}, "look-alike": {"shift", "confusion"}}


class LabelFlip(Attack):
    """Trains on wrong labels: each class becomes another one, for a share of the images.

    The mode ``all`` is the static flip of Fang et al., "Local Model Poisoning Attacks to Byzantine-Robust
    Federated Learning", USENIX Security 2020, section 4.1: class y becomes (y + shift) mod K, with a shift in
    place of their K - y - 1, so that no class keeps its label. ``pairwise`` flips one class to one other
    (Tolpegin et al., "Data Poisoning Attacks Against Federated Learning Systems", ESORICS 2020).
    ``look-alike`` flips each class to the one that it is most often confused with, a mistake that a reader of
    the images might make as well.

    Parameters
    ----------
    share : float
        Share of the hospital's images to flip, in the mode ``pairwise`` of its images of the source class; 0
        is an honest hospital.
    shift : int, optional
        Added to the label modulo the number of classes; not a multiple of it. 1 unless given.
    mode : str
        ``all``, ``pairwise`` or ``look-alike``.
    source, target : int
        For ``pairwise``: images of the class `source` are labelled `target`.
    confusion : sequence of sequence of float, optional
        For ``look-alike``: K x K, how often class i (row) is classified as class j (column); the diagonal
        does not count. Unless given, the hospital estimates it from its own images: an image counts for the
        class whose mean image is nearest to it, without its own class. With images of one class only it has
        nothing to compare and uses shift.
    """

    def __init__(
        self,
        share: Fraction = 1.0,
        shift: int | None = None,
        mode: Literal["all", "pairwise", "look-alike"] = "all",
        source: NonNegativeInt | None = None,
        target: NonNegativeInt | None = None,
        confusion: Sequence[Sequence[float]] | None = None,
    ) -> None:
        """Check the options that belong together."""
        self.share = share
        given = {"shift": shift, "source": source, "target": target, "confusion": confusion}
        for name, value in given.items():
            if value is not None and name not in _MODES[mode]:
                raise UserError(f"label-flip: {name} does not belong to the mode '{mode}'; leave it out")
        if shift is not None and confusion is not None:
            raise UserError(
                "label-flip: confusion decides what each class becomes, so shift has no use; leave one out"
            )
        if mode == "pairwise":
            if source is None or target is None:
                raise UserError("label-flip: the mode 'pairwise' needs source and target, two classes")
            if source == target:
                raise UserError(f"label-flip: source and target are both {source}, which changes no label")
        self.shift = 1 if shift is None else shift
        self.mode, self.source, self.target = mode, source, target
        self.confusion = None if confusion is None else _matrix(confusion)

    def check(self, records: Records) -> None:
        """Refuse options that do not fit the data's classes."""
        classes = len(records.classes)
        if self.source is not None and self.target is not None:
            check_class("label-flip", "source", self.source, classes)
            check_class("label-flip", "target", self.target, classes)
        elif self.confusion is not None and len(self.confusion) != classes:
            raise UserError(
                f"label-flip: confusion has {len(self.confusion)} classes, but the data have {classes}"
            )
        elif self.shift % classes == 0:
            raise UserError(
                f"label-flip: shift={self.shift} changes no label of {classes} classes; use another"
            )

    def poison_records(self, records: Records) -> Records:
        """Return the records with labels flipped."""
        self.check(records)
        among = np.arange(len(records))
        if self.mode == "pairwise":
            among = np.flatnonzero(records.labels == self.source)
        labels = np.array(records.labels)
        chosen = pick(self.rng, self.share, among)
        labels[chosen] = self._becomes(records)[labels[chosen]]
        return replace(records, labels=labels)

    def _becomes(self, records: Records) -> NDArray[np.int64]:
        """Return the class that each class is flipped to, shape (K,)."""
        classes = np.arange(len(records.classes))
        if self.mode == "pairwise":
            assert self.target is not None
            return np.full(len(classes), self.target)
        held = np.count_nonzero(records.counts())
        if self.mode == "all" or (self.confusion is None and held < 2):
            return np.asarray((classes + self.shift) % len(classes), np.int64)
        confusion = _estimated(records) if self.confusion is None else self.confusion
        others = np.where(np.eye(len(classes), dtype=bool), -1.0, confusion)
        return np.asarray(others.argmax(axis=1), np.int64)


def _matrix(confusion: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Return a given confusion matrix as an array; `UserError` if it is none."""
    lengths = {len(row) if isinstance(row, list | tuple) else -1 for row in confusion}
    if lengths != {len(confusion)}:
        raise UserError("label-flip: confusion must be square, one row a class, such as [[8, 2], [3, 7]]")
    matrix = np.array(confusion, np.float64)
    others = np.where(np.eye(len(matrix), dtype=bool), 0.0, matrix)
    if not np.isfinite(matrix).all() or (matrix < 0).any():
        raise UserError("label-flip: confusion must hold finite numbers that are not negative")
    if not others.any(axis=1).all():
        row = int(np.flatnonzero(~others.any(axis=1))[0])
        raise UserError(f"label-flip: by confusion class {row} is classified as no other; give a number")
    return matrix


def _estimated(records: Records) -> NDArray[np.float64]:
    """Return how many images of each class lie nearest to each other class's mean, shape (K, K)."""
    distances = class_distances(records)
    distances[np.arange(len(records)), records.labels] = np.inf
    confusion = np.zeros((len(records.classes),) * 2)
    np.add.at(confusion, (records.labels, distances.argmin(axis=1)), 1)
    return confusion

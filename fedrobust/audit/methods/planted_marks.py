"""Planted marks and blended triggers: fine structure that some images of a class share."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from fedrobust.audit.base import Auditor, Kind, Subject, Suspicion
from fedrobust.plugins.options import Fraction
from fedrobust.seeding import derive

__all__ = ["PlantedMarks"]

#: Residuals count at most as so many robust standard deviations: a mark's pixels are extreme, and so are a
#: few of any image.
_CLIP = 8.0

#: Directions that are looked at in each class; a mark in a tenth of the images is among the first.
_DIRECTIONS = 5

#: The pixels of a direction that belong to the mark: those with at least this share of its largest entry.
_PART = 1 / 3


@dataclass(frozen=True)
class _Found:
    """A mark: how well its images stand apart, each image's score, and its box on the image."""

    separation: float
    scores: NDArray[np.float64]
    box: tuple[int, int, int, int]


class PlantedMarks(Auditor):
    """Suspects images of a class that share a fine structure at the same place, which the others lack.

    Parameters
    ----------
    separation : float
        The share of the variance along a direction that two groups must explain: 0.64 in a normal
        distribution, 1 for two points.
    smallest_class : int
        Classes with fewer images are not examined: among so few, two groups often stand apart by chance.

    Notes
    -----
    A backdoor's images are of one class, and carry the same mark. From each pixel the mean of its four
    neighbours is subtracted, which leaves edges and noise; each place is divided by its robust scale over the
    class's images, clipped, and each image's residual is scaled to unit length. The first right singular
    vectors of these rows are the structures that images share (Tran et al. 2018, there on a network's
    features). Anatomy gives a continuum of projections, a mark two groups: a direction counts if Otsu's
    threshold splits its projections into groups that explain `separation` of the variance, the smaller one
    having the mark. The directions' independent components are tried too, as singular vectors mix what
    explains as much. It finds patches of a few pixels, letters, rulers and blended patterns, but not a mark
    that is elsewhere in each image.

    References
    ----------
    Tran, Li and Madry, "Spectral Signatures in Backdoor Attacks", NeurIPS 2018.
    Otsu, "A threshold selection method from gray-level histograms", IEEE Trans. SMC 1979.
    """

    kind: ClassVar[Kind] = "planted mark"

    def __init__(self, separation: Fraction = 0.8, smallest_class: PositiveInt = 100) -> None:
        """Keep the options."""
        self.separation, self.smallest_class = separation, smallest_class

    def examine(self, subject: Subject) -> Suspicion:
        """Return projections relative to the threshold between the groups; below 1 where there is no mark."""
        records = subject.records
        scores = np.zeros(len(records))
        evidence: dict[int, str] = {}
        for k in range(len(records.classes)):
            members = np.flatnonzero(records.labels == k)
            if len(members) < self.smallest_class:
                continue
            for mark in _marks(records.images[members], derive(subject.seed, "audit marks") % 2**32):
                found = mark.scores
                if mark.separation < self.separation:
                    # The order stays, for those who look further down.
                    found = np.clip(found, 0, None) / (found.max() + 1.0) * mark.separation
                better = found > scores[members]
                scores[members[better]] = found[better]
                stamped = members[better & (found >= 1)]
                top, left, bottom, right = mark.box
                evidence |= {
                    int(i): f"shares a mark in rows {top} to {bottom}, columns {left} to {right}, with "
                    f"{int((found >= 1).sum()) - 1} other images of class {records.classes[k]}"
                    for i in stamped
                }
        return Suspicion(scores, evidence)


def _marks(images: NDArray[np.uint8], seed: int) -> Iterator[_Found]:
    """Yield what the images share along each direction."""
    from sklearn.utils.extmath import randomized_svd

    residuals = _residuals(images)
    count = min(_DIRECTIONS, min(residuals.shape) - 1)
    rows = residuals / (np.linalg.norm(residuals, axis=1, keepdims=True) + 1e-9)
    _, _, directions = randomized_svd(rows, count, random_state=seed)
    independent = _independent(rows, directions, seed)
    for place, direction in enumerate((*directions, *independent)):
        projections = rows @ direction
        sign = np.sign((projections**3).sum()) or 1.0
        # The mark's own pixels alone: the others only add noise.
        core = np.where(np.abs(direction) >= _PART * np.abs(direction).max(), direction * sign, 0.0)
        core /= np.linalg.norm(core)
        box = _box(core.reshape(images.shape[2:]))
        mark = max(
            (_split(values, box) for values in (projections * sign, residuals @ core)),
            key=lambda found: found.separation,
        )
        # Independent components are sought for standing apart: what they leave unexplained counts double.
        chosen = place >= len(directions)
        yield replace(mark, separation=2 * mark.separation - 1) if chosen else mark


def _independent(
    rows: NDArray[np.float32], directions: NDArray[np.float32], seed: int
) -> NDArray[np.float32]:
    """Return directions that independent components of the projections stand for.

    Where a mark and anatomy explain as much, the singular vectors mix them.
    """
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    analysis = FastICA(len(directions), whiten="unit-variance", random_state=seed, max_iter=500)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        components = analysis.fit_transform(rows @ directions.T)
    found = components.T @ rows
    return np.asarray(found / (np.linalg.norm(found, axis=1, keepdims=True) + 1e-12), np.float32)


def _residuals(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return each pixel minus the mean of its neighbours, in clipped robust scales of its place, (n, p)."""
    grey = images.mean(axis=1, dtype=np.float32)
    wide = np.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge")
    around = wide[:, :-2, 1:-1] + wide[:, 2:, 1:-1] + wide[:, 1:-1, :-2] + wide[:, 1:-1, 2:]
    fine = (grey - around / 4).reshape(len(images), -1)
    fine -= np.median(fine, axis=0)
    scales = 1.4826 * np.median(np.abs(fine), axis=0)
    # A grey level at least: dark borders have no variation at all.
    fine /= np.maximum(scales, max(float(np.median(scales)), 1.0))
    return np.asarray(np.clip(fine, -_CLIP, _CLIP), np.float32)


def _split(values: NDArray[np.floating], box: tuple[int, int, int, int]) -> _Found:
    """Split values by Otsu's threshold; scores are 1 at the threshold and 0 at the lower group's mean."""
    ordered = np.sort(values.astype(np.float64))
    n, total = len(ordered), ordered.sum()
    below = np.arange(1, n)
    sums = np.cumsum(ordered)[:-1]
    between = below * (n - below) / n**2 * (sums / below - (total - sums) / (n - below)) ** 2
    cut = int(between.argmax())
    threshold, low = (ordered[cut] + ordered[cut + 1]) / 2, sums[cut] / (cut + 1)
    variance = float(ordered.var())
    # Marks are in the smaller group.
    separation = float(between[cut]) / variance if variance > 0 and cut + 1 > n / 2 else 0.0
    return _Found(separation, (values - low) / max(threshold - low, 1e-12), box)


def _box(core: NDArray[np.floating]) -> tuple[int, int, int, int]:
    """Return the first and last rows and columns with a pixel of the mark."""
    rows, columns = np.nonzero(core)
    return int(rows.min()), int(columns.min()), int(rows.max()), int(columns.max())

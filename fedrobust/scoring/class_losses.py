"""Hospitals compared class by class, by the losses that they report."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedrobust.federation import Updates

__all__ = [
    "CEILING",
    "class_counts",
    "class_excess",
    "images_mean",
    "plausible_num_examples",
    "reported_excess",
    "robust_z_scores",
]

Floats = NDArray[np.float64]

#: Robust z-scores are cut at this, above and below.
CEILING = 10.0
#: The excess of a hospital with so many images is multiplied by 1 / sqrt(2), as few images say little.
FEW = 10.0
#: A reported number of images counts up to so many times the median one, in all and of a class: no single
#: report decides what is typical.
LARGEST = 3.0


def plausible_num_examples(updates: Updates) -> Floats:
    """Return the reported numbers of images, shape (n,): 0 where not plausible, bounded where huge."""
    reported = updates.num_examples
    plausible = np.where(np.isfinite(reported), np.maximum(reported, 0.0), 0.0)
    return np.asarray(np.minimum(plausible, LARGEST * np.median(plausible)))


def class_counts(updates: Updates) -> Floats | None:
    """Return the reported numbers of images by class, shape (n, K), bounded; None where most report none."""
    counts = updates.reported("class-counts")
    if counts.ndim != 2 or np.isfinite(counts).any(axis=1).mean() < 0.5:
        return None
    held = np.isfinite(counts) & (counts > 0)
    usual = [np.median(counts[held[:, k], k]) if held[:, k].any() else 0.0 for k in range(counts.shape[1])]
    return np.where(held, np.minimum(np.where(held, counts, 0.0), LARGEST * np.array(usual)), 0.0)


def reported_excess(updates: Updates, by_class: str, plain: str) -> tuple[Floats, float]:
    """Return each hospital's reported loss above others' on its classes, shape (n,), and the typical loss.

    Parameters
    ----------
    updates : Updates
    by_class : str
        The reported losses by class.
    plain : str
        The reported loss over all images; used as it is where losses by class are missing. A hospital that
        reports none while others do gets NaN.
    """
    values, counts = updates.reported(by_class), class_counts(updates)
    if counts is None or values.shape != counts.shape:
        values = updates.reported(plain)
        values = values if values.ndim == 1 else np.full(len(updates), np.nan)
        return values, _typical(values)
    return class_excess(values, counts), _typical(images_mean(values, counts))


def class_excess(values: Floats, counts: Floats) -> Floats:
    """Return each hospital's values above others' on its classes, a mean over its images; shape (n,).

    Values and images by class, shape (n, K); NaN where there is no value. A class's typical value is the
    median in which each hospital counts by its images. Of a hospital with m images the excess is multiplied
    by sqrt(m / (m + FEW)); it is 0 where nobody shares its classes, NaN where it has no value at all.
    """
    held = np.isfinite(values) & (counts > 0)
    excess = np.zeros(values.shape)
    for k in np.flatnonzero(held.sum(axis=0) > 1):
        who = held[:, k]
        excess[who, k] = values[who, k] - _weighted_median(values[who, k], counts[who, k])
    images = np.maximum(np.where(held, counts, 0.0).sum(axis=1), 1.0)
    mean = images_mean(np.where(held, excess, np.nan), counts)
    return np.asarray(mean * np.sqrt(images / (images + FEW)))


def robust_z_scores(values: Floats, floor: float) -> Floats:
    """Return values in robust standard deviations above the median, within [-CEILING, CEILING], shape (n,).

    A hospital without a value (NaN) while others have one counts as the worst. The standard deviation is
    1.4826 MAD, at least `floor`, so that tiny differences between hospitals that agree do not count.
    """
    known = np.isfinite(values)
    if not known.any():
        return np.zeros(len(values))
    centred = values - np.median(values[known])
    deviation = max(1.4826 * float(np.median(np.abs(centred[known]))), floor, 1e-12)
    return np.asarray(np.where(known, np.clip(centred / deviation, -CEILING, CEILING), CEILING))


def images_mean(values: Floats, counts: Floats) -> Floats:
    """Return each hospital's mean value over its images, shape (n,) for (n, K); NaN where it has none."""
    held = np.isfinite(values) & (counts > 0)
    images = np.where(held, counts, 0.0).sum(axis=1)
    total = np.where(held, counts * np.where(held, values, 0.0), 0.0).sum(axis=1)
    return np.asarray(np.divide(total, images, out=np.full(len(values), np.nan), where=images > 0))


def _typical(values: Floats) -> float:
    return float(np.nanmedian(values)) if np.isfinite(values).any() else 0.0


def _weighted_median(values: Floats, weights: Floats) -> float:
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])

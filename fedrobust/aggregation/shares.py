"""Weights by reported numbers of images with a cap, and the weighted forms of rules on coordinates."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedrobust.federation import Defence

__all__ = ["Cap", "capped_shares", "trust_sizes", "weighted_median", "weighted_trimmed_mean"]

Floats = NDArray[np.float64]

#: The option of a rule: the largest share of one hospital; None for equal weights.
Cap = Annotated[float, Field(gt=0, le=1)] | None


def trust_sizes(rule: Defence) -> None:
    """Let the manifest say of this one object that it relies on the reported numbers of images."""
    vars(rule)["trusts"] = rule.trusts | {"num_examples"}


def capped_shares(images: Floats, cap: float) -> Floats:
    """Return each hospital's share of all images, none above the cap, shape (n,); they sum to 1.

    What the cap takes off goes to the others in proportion to their images. Where the cap is below 1 / n, or
    nobody reports a positive number, the shares are equal. A number that is not finite counts as 0.

    Parameters
    ----------
    images : ndarray, shape (n,)
        Reported numbers of images, which nothing verifies: the cap bounds what a forged one can reach.
    cap : float
        In (0, 1].
    """
    n = len(images)
    counts = np.where(np.isfinite(images), np.maximum(images, 0.0), 0.0)
    if not counts.any() or cap * n <= 1:
        return np.full(n, 1 / n)
    # Equal shares for those without images would be more than they report: they get what is left over only
    # where all others are at the cap.
    capped = np.zeros(n, bool)
    while True:
        left = 1 - cap * capped.sum()
        free = counts * ~capped
        if not free.any():
            return np.where(capped, cap, left / max(1, (~capped).sum()))
        shares = np.where(capped, cap, left * free / free.sum())
        over = (shares > cap) & ~capped
        if not over.any():
            return shares
        capped |= over


def weighted_median(block: NDArray[np.floating], weight: Floats) -> Floats:
    """Return each column's weighted median, the mean of the lower and the upper one, shape (columns,).

    Parameters
    ----------
    block : ndarray, shape (n, columns)
    weight : ndarray, shape (n,)
        Sums to 1.
    """
    values, below = _sorted(block, weight)
    # Sums of weights differ from a half by rounding where they reach it.
    lower = np.argmax(below >= 0.5 - 1e-12, axis=0)
    upper = np.argmax(below > 0.5 + 1e-12, axis=0)
    columns = np.arange(block.shape[1])
    return np.asarray((values[lower, columns] + values[upper, columns]) / 2)


def weighted_trimmed_mean(block: NDArray[np.floating], weight: Floats, trim: float) -> Floats:
    """Return each column's mean without a share of the weight at both ends, shape (columns,).

    Parameters
    ----------
    block : ndarray, shape (n, columns)
    weight : ndarray, shape (n,)
        Sums to 1.
    trim : float
        Weight to cut on each side, below a half; of a value on the edge a part stays.
    """
    values, below = _sorted(block, weight)
    start = np.vstack([np.zeros(block.shape[1]), below[:-1]])
    kept = np.clip(np.minimum(below, 1 - trim) - np.maximum(start, trim), 0.0, None)
    return np.asarray((kept * values).sum(axis=0) / kept.sum(axis=0))


def _sorted(block: NDArray[np.floating], weight: Floats) -> tuple[Floats, Floats]:
    """Return each column sorted, and the sum of the weights up to each value; the last is 1 exactly."""
    order = np.argsort(block, axis=0, kind="stable")
    below = np.cumsum(weight[order], axis=0)
    below[-1] = 1.0
    return np.take_along_axis(block, order, axis=0).astype(np.float64), below

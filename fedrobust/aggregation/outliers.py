"""How far a figure of each hospital is from the others' median, in standard deviations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["median_scores"]


def median_scores(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return |x - median(x)| / sd(x) of each hospital's figure, along the first axis.

    The standard deviation is the population's. Where all figures are equal but for rounding, all are 0.
    """
    away = np.abs(values - np.median(values, axis=0))
    deviation = np.broadcast_to(values.std(axis=0), values.shape)
    rounding = 1e-9 * np.abs(values).max(axis=0)
    return np.asarray(np.divide(away, deviation, out=np.zeros_like(away), where=deviation > rounding))

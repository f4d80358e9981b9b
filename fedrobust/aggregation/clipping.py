"""Factors that shorten vectors to a bound."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["clip_factors"]


def clip_factors(norms: NDArray[np.float64], bound: float) -> NDArray[np.float64]:
    """Return the factors that leave no vector longer than `bound`, shape (n,): min(1, bound / norm).

    Parameters
    ----------
    norms : ndarray, shape (n,)
        The vectors' lengths; a vector of length 0 keeps the factor 1.
    bound : float
        Not negative.
    """
    return np.divide(bound, norms, out=np.ones(len(norms)), where=norms > bound)

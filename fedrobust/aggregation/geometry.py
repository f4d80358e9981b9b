"""What rules compute from inner products: distances, cosines, Krum scores, nearest neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedrobust.errors import UserError

__all__ = [
    "above_zero_to_one",
    "cosines",
    "krum_scores",
    "nearest",
    "squared_distances",
    "squared_distances_to",
    "whole",
]

Floats = NDArray[np.float64]


def squared_distances(gram: ArrayLike) -> Floats:
    """Return the squared Euclidean distances behind inner products, shape (n, n).

    Equal vectors have distance 0 exactly: what is left of a difference within rounding counts as none.
    """
    g = np.asarray(gram, np.float64)
    lengths = np.diagonal(g)
    both = lengths[:, None] + lengths[None, :]
    squares = both - (g + g.T)
    squares[squares < 1e-13 * both] = 0.0
    np.fill_diagonal(squares, 0.0)
    return np.asarray(squares)


def squared_distances_to(coefficients: ArrayLike, squares: Floats) -> Floats:
    """Return each vector's squared distance to the point sum_j coefficients_j x_j, shape (n,).

    Parameters
    ----------
    coefficients : array_like, shape (n,)
        Sum to 1.
    squares : ndarray, shape (n, n)
        Squared distances between the vectors.
    """
    c = np.asarray(coefficients, np.float64)
    towards = squares @ c
    return np.maximum(towards - 0.5 * (c @ towards), 0.0)


def cosines(gram: ArrayLike) -> Floats:
    """Return the cosines behind inner products, shape (n, n); 0 beside a vector of length 0."""
    g = np.asarray(gram, np.float64)
    lengths = np.sqrt(np.maximum(np.diagonal(g), 0.0))
    both = np.outer(lengths, lengths)
    ratio = np.divide(g, both, out=np.zeros_like(g), where=both > 0)
    return np.asarray(np.clip(ratio, -1.0, 1.0))


def krum_scores(squares: Floats, f: int) -> Floats:
    """Return each vector's summed squared distances to its n - f - 2 nearest others, shape (n,).

    Blanchard et al., NeurIPS 2017, section 4. Of too few vectors at least one neighbour counts.
    """
    n = len(squares)
    ascending = np.sort(squares, axis=1)
    return np.asarray(ascending[:, 1 : 1 + max(1, n - f - 2)].sum(axis=1))


def nearest(squares: Floats, k: int) -> NDArray[np.int64]:
    """Return for each vector the k nearest ones, shape (n, k): itself first, ties by the hospitals' order."""
    own = squares.copy()
    np.fill_diagonal(own, -1.0)
    return np.argsort(own, axis=1, kind="stable")[:, :k]


def whole(rule: str, option: str, value: object, least: int = 0) -> int:
    """Return an option that must be a whole number of at least `least`; `UserError` otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{rule}: {option} is {value!r}, but must be a whole number of at least {least}")
    return value


def above_zero_to_one(rule: str, option: str, value: float) -> float:
    """Return an option that must be a share in (0, 1]; `UserError` otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise UserError(f"{rule}: {option} is {value!r}, but must be above 0 and at most 1")
    return float(value)

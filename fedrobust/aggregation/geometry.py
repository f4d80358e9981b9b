"""What rules compute from inner products: distances, cosines, Krum scores, nearest neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "cosines",
    "krum_scores",
    "nearest",
    "significant",
    "squared_distances",
    "squared_distances_to",
]

Floats = NDArray[np.float64]

#: A sum that is a smaller part of its terms has lost too many digits.
CANCELLED = 1e-8


def significant(values: ArrayLike) -> Floats:
    """Return values rounded to 30 binary (about 9 decimal) digits, so that only real differences are ranked.

    Two sums over the same numbers differ in their last bits with the BLAS, and would decide a tie.
    """
    mantissa, exponent = np.frexp(np.asarray(values, np.float64))
    return np.asarray(np.ldexp(np.round(np.ldexp(mantissa, 30)), exponent - 30))


def squared_distances(gram: ArrayLike) -> Floats:
    """Return the squared Euclidean distances behind inner products, shape (n, n).

    Equal vectors have distance 0 exactly and equal rows: what is left of a difference within rounding counts
    as none, and each takes the distances of the first of them, whatever a BLAS made of the others' last bits.
    """
    g = np.asarray(gram, np.float64)
    lengths = np.diagonal(g)
    both = lengths[:, None] + lengths[None, :]
    squares = both - (g + g.T)
    squares[squares < 1e-13 * both] = 0.0
    np.fill_diagonal(squares, 0.0)
    first = np.argmax(squares == 0.0, axis=1)
    return np.asarray(squares[np.ix_(first, first)])


def squared_distances_to(coefficients: ArrayLike, squares: Floats, gram: ArrayLike) -> Floats:
    """Return each vector's squared distance to the point sum_j coefficients_j x_j, shape (n,).

    The squared distances between the vectors give it, but where their terms cancel: beside a vector of
    another magnitude that has a small coefficient. There it is taken from the inner products, if their terms
    are smaller.

    Parameters
    ----------
    coefficients : array_like, shape (n,)
        Sum to 1.
    squares : ndarray, shape (n, n)
        Squared distances between the vectors.
    gram : array_like, shape (n, n)
        Their inner products.
    """
    c, g = np.asarray(coefficients, np.float64), np.asarray(gram, np.float64)
    towards = squares @ c
    found = np.maximum(towards - 0.5 * (c @ towards), 0.0)
    terms = squares @ np.abs(c)
    terms += 0.5 * (np.abs(c) @ terms)
    cancelled = found < CANCELLED * terms
    if not cancelled.any():
        return found
    # Row i holds the coefficients of the point less vector i.
    apart = c - np.eye(len(c))
    direct = np.maximum(((apart @ g) * apart).sum(axis=1), 0.0)
    smaller = (np.abs(apart) @ np.sqrt(np.maximum(np.diagonal(g), 0.0))) ** 2 < terms
    return np.where(cancelled & smaller, direct, found)


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
    return np.argsort(significant(own), axis=1, kind="stable")[:, :k]

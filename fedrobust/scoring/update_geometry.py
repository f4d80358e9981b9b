"""Update behaviour: an update's direction, its cosine with the others, its length."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedrobust.aggregation.geometry import cosines

__all__ = ["cosine_to_others", "excess_length", "lack_of_direction"]

Floats = NDArray[np.float64]


def lack_of_direction(gram: ArrayLike, dimension: int, ceiling: float) -> Floats:
    """Return how much less direction each update has than the median one, if it has no more than noise.

    The cosine of a random vector of length d with any other is about normal with standard deviation 1 /
    sqrt(d). The strength of an update is the median of its absolute cosines in those units, about 0.7 for
    noise; it is no larger for two hospitals that send the same noise.

    Parameters
    ----------
    gram : array_like, shape (n, n)
        Inner products of the updates.
    dimension : int
        d.
    ceiling : float
        The largest value, for a strength 20 times below the median.

    Returns
    -------
    ndarray, shape (n,)
        0 for a strength of 4 or more, in [0, ceiling] below.
    """
    angles = np.abs(cosines(gram))
    n = len(angles)
    if n < 2:
        return np.zeros(n)
    others = angles[~np.eye(n, dtype=bool)].reshape(n, n - 1)
    strength = np.median(others, axis=1) * np.sqrt(dimension)
    typical = float(np.median(strength))
    if typical <= 0:
        return np.zeros(n)
    gap = np.log(typical / np.maximum(strength, 1e-3 * typical)) / np.log(20)
    return np.asarray(ceiling * np.clip(gap, 0.0, 1.0) * np.clip((4 - strength) / 2, 0.0, 1.0))


def cosine_to_others(gram: ArrayLike, weight: Floats) -> Floats:
    """Return each update's cosine with the weighted sum of the others, shape (n,); 0 where one is zero."""
    g = np.asarray(gram, np.float64)
    others = np.where(np.eye(len(g), dtype=bool), 0.0, weight)
    along = (others * g).sum(axis=1)
    squares = ((others @ g) * others).sum(axis=1) * np.diagonal(g)
    cosine = np.divide(along, np.sqrt(np.maximum(squares, 0.0)), out=np.zeros(len(g)), where=squares > 0)
    return np.asarray(cosine)


def excess_length(norms: Floats, images: Floats) -> Floats:
    """Return the logarithm of each update's length, less what its number of images explains; shape (n,).

    More images are more steps, so updates grow with them by a power. Its exponent, in [0, 1], is the median
    over all pairs of hospitals (Theil, 1950; Sen, 1968). Where most pairs report the same number, the numbers
    explain nothing, as a single hospital with a false one would set the exponent. Smaller numbers count as a
    twentieth of the median one.
    """
    least = max(1.0, float(np.median(images)) / 20) if len(images) else 1.0
    length, size = np.log(np.maximum(norms, 1e-30)), np.log(np.maximum(images, least))
    first, second = np.triu_indices(len(norms), 1)
    gap = size[second] - size[first]
    differs = np.abs(gap) > 1e-9
    if not differs.any() or differs.mean() < 0.5:
        return np.asarray(length)
    slope = np.median((length[second] - length[first])[differs] / gap[differs])
    return np.asarray(length - float(np.clip(slope, 0.0, 1.0)) * size)

"""A search for weights within bounds that lower the loss on the server's own images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["bounded_weights", "search_weights"]

Floats = NDArray[np.float64]

#: A weight is tried at so many times, or that fraction, of its value.
STEP = 4.0
#: A try is better below this fraction of the best loss: with 300 images, smaller differences are noise.
GAIN = 0.999
#: Weights with an upper bound below this fraction of the largest are not tried: they cannot change the mean.
NEGLIGIBLE = 0.01


def bounded_weights(weights: Floats, least: Floats, most: Floats) -> Floats:
    """Return the weights scaled by one factor and clipped to the bounds, so that they sum to 1.

    Parameters
    ----------
    weights : ndarray, shape (n,)
        Not negative; above 0 where `most` is.
    least, most : ndarray, shape (n,)
        Bounds, least.sum() <= 1 <= most.sum().
    """
    low, high = -64.0, 64.0
    for _ in range(64):
        middle = (low + high) / 2
        if np.clip(2.0**middle * weights, least, most).sum() < 1:
            low = middle
        else:
            high = middle
    return np.asarray(np.clip(2.0**high * weights, least, most))


def search_weights(
    loss: Callable[[Floats], float], starts: Sequence[Floats], least: Floats, most: Floats, harm: Floats
) -> Floats:
    """Return weights within the bounds for which the mean has a low loss.

    From the better start, each hospital's weight is tried once larger or smaller, in the order of the
    hospitals' effect on the loss; a change is kept if the loss falls. At most len(starts) + n calls of
    `loss`.

    Parameters
    ----------
    loss : callable
        Takes weights, shape (n,), that sum to 1.
    starts : sequence of ndarray, shape (n,)
    least, most : ndarray, shape (n,)
        As for `bounded_weights`.
    harm : ndarray, shape (n,)
        The increase of the loss when a hospital joins: where it is positive, a smaller weight is tried, else
        a larger one.

    Returns
    -------
    ndarray, shape (n,)
        Sums to 1.
    """
    tried = [bounded_weights(start, least, most) for start in starts]
    losses = [loss(weights) for weights in tried]
    first = int(np.argmin(losses))
    best, lowest = tried[first], losses[first]
    for i in np.argsort(-np.abs(harm), kind="stable"):
        if most[i] < NEGLIGIBLE * most.max():
            continue
        other = best.copy()
        other[i] *= STEP if harm[i] <= 0 else 1 / STEP
        other = bounded_weights(other, least, most)
        if np.abs(other - best).max() < 1e-3:
            continue
        found = loss(other)
        if found < GAIN * lowest:
            best, lowest = other, found
    return best

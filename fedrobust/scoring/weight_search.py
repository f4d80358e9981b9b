"""Shares within bounds that the server's own images choose."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["best_shares", "within"]

Floats = NDArray[np.float64]

#: A share is tried at so many times, or that part, of itself.
STEP = 4.0
#: A try counts as better from this part of the best loss on: what is less, 300 images cannot tell.
GAIN = 0.999
#: Whose bounds are so small a part of the largest ones is not tried: a distrusted hospital cannot change the mean.
NEGLIGIBLE = 0.01


def within(shares: Floats, least: Floats, most: Floats) -> Floats:
    """Return the shares scaled by one factor, then held within the bounds, so that they sum to 1.

    Parameters
    ----------
    shares : ndarray, shape (n,)
        Not negative; above 0 where `most` is.
    least, most : ndarray, shape (n,)
        Bounds, least.sum() <= 1 <= most.sum().
    """
    low, high = -64.0, 64.0
    for _ in range(64):
        middle = (low + high) / 2
        if np.clip(2.0**middle * shares, least, most).sum() < 1:
            low = middle
        else:
            high = middle
    return np.asarray(np.clip(2.0**high * shares, least, most))


def best_shares(
    loss: Callable[[Floats], float], starts: Sequence[Floats], least: Floats, most: Floats, harm: Floats
) -> Floats:
    """Return shares within the bounds whose mean has a low loss.

    The better start, then each hospital's share once larger or smaller, what helps the most or harms the most first; a
    change stays where the loss falls. len(starts) + n calls of `loss` at most.

    Parameters
    ----------
    loss : callable
        Takes shares, shape (n,), that sum to 1.
    starts : sequence of ndarray, shape (n,)
    least, most : ndarray, shape (n,)
        As for `within`.
    harm : ndarray, shape (n,)
        What the loss rises by when a hospital joins: who harms is tried with less, the others with more.

    Returns
    -------
    ndarray, shape (n,)
        Sums to 1.
    """
    tried = [within(start, least, most) for start in starts]
    losses = [loss(shares) for shares in tried]
    first = int(np.argmin(losses))
    best, lowest = tried[first], losses[first]
    for i in np.argsort(-np.abs(harm), kind="stable"):
        if most[i] < NEGLIGIBLE * most.max():
            continue
        other = best.copy()
        other[i] *= STEP if harm[i] <= 0 else 1 / STEP
        other = within(other, least, most)
        if np.abs(other - best).max() < 1e-3:
            continue
        found = loss(other)
        if found < GAIN * lowest:
            best, lowest = other, found
    return best

"""Passes over the server's images, for rules that train a model on them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fedrobust.seeding import generator

__all__ = ["passes"]


def passes(
    images: int, batch: int, epochs: int, purpose: str, seed: int, round: int
) -> Iterator[tuple[float, NDArray[np.int64]]]:
    """Yield the batches of passes over images, each pass in an order of its own.

    Parameters
    ----------
    images : int
        How many there are.
    batch : int
        Images of a batch, at most.
    epochs : int
        Passes.
    purpose : str
        For the order, as are `seed` and `round`; see `fedrobust.seeding.generator`.

    Yields
    ------
    float
        How much of its pass the batch's middle has behind it, in (0, 1).
    ndarray of int64
        The places of its images, ascending.
    """
    starts = range(0, images, batch)
    for epoch in range(epochs):
        order = generator(seed, purpose, round, epoch).permutation(images)
        for place, start in enumerate(starts):
            yield (place + 0.5) / len(starts), np.sort(order[start : start + batch])

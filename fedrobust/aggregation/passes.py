"""Passes over the server's images, for rules that train a model on them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fedrobust.seeding import generator

__all__ = ["balanced_batches", "passes"]


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


def balanced_batches(
    labels: NDArray[np.int64], batch: int, steps: int, purpose: str, seed: int, round: int
) -> list[NDArray[np.int64]]:
    """Return the places of each step's images, as many of each class; few images of a class recur.

    Parameters
    ----------
    labels : ndarray of int64, shape (m,)
        The classes of all images.
    batch : int
        Images of a step.
    steps : int
    purpose : str
        For what draws, as are `seed` and `round`.
    """
    draw = generator(seed, purpose, round)
    members = [np.flatnonzero(labels == k) for k in np.unique(labels)]
    wanted = -(-steps * batch // len(members))
    drawn = [
        np.concatenate([draw.permutation(own) for _ in range(-(-wanted // len(own)))])[:wanted]
        for own in members
    ]
    # The classes take turns, so that each step has them all.
    order = np.stack(drawn, axis=1).ravel()[: steps * batch]
    return [np.sort(places) for places in np.split(order, steps)]

"""A long tail of classes, made by leaving images out of the training and validation parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.split import Split
from fedrobust.seeding import generator

__all__ = ["long_tailed"]


def long_tailed(split: Split, labels: NDArray[np.int64], imbalance: float, seed: int) -> Split:
    """Return a split whose training and validation parts have a long tail of classes.

    As Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, section 5.1: the
    numbers of images of the classes, in descending order, fall by equal factors; the last is the first
    divided by `imbalance`. A class that has fewer already keeps them, and one with any keeps one at least.
    The test part stays, so that rare classes are tested on as many images as before.

    Parameters
    ----------
    split : Split
    labels : ndarray of int64
        Of all records.
    imbalance : float
        At least 1, which leaves the split as it is.
    seed : int
    """
    if imbalance == 1:
        return split
    draw = generator(seed, "long tail")
    return replace(
        split, **{name: _thinned(getattr(split, name), labels, imbalance, draw) for name in ("train", "val")}
    )


def _thinned(
    index: NDArray[np.int64], labels: NDArray[np.int64], imbalance: float, draw: np.random.Generator
) -> NDArray[np.int64]:
    counts = np.bincount(labels[index], minlength=int(labels.max()) + 1)
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] > 0]
    kept = []
    for rank, k in enumerate(order):
        most = counts[order[0]] * imbalance ** (-rank / max(1, len(order) - 1))
        members = draw.permutation(index[labels[index] == k])
        kept.append(members[: max(1, round(most))])
    return np.sort(np.concatenate(kept))

"""The majority among the hospitals, by distances."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["majority"]


def majority(distances: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the first group of more than half that single linkage joins as the distance grows.

    It is the cluster that HDBSCAN finds with clusters of more than half and min_samples 1.
    """
    n = len(distances)
    groups = np.arange(n)
    first, second = np.triu_indices(n, 1)
    heights = distances[first, second]
    order = np.argsort(heights, kind="stable")
    for place, edge in enumerate(order):
        groups[groups == groups[second[edge]]] = groups[first[edge]]
        # Pairs equally far apart join at the same height, all of them.
        if place + 1 < len(order) and heights[order[place + 1]] == heights[edge]:
            continue
        sizes = np.bincount(groups, minlength=n)
        if sizes.max() > n // 2:
            return np.asarray(groups == np.argmax(sizes))
    return np.ones(n, bool)

"""Groups among the hospitals, by distances."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["majority", "two_means"]


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


def two_means(features: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return who is in the second of two means' groups; nobody where all are equal but for rounding.

    The means begin at the two farthest apart, so nothing is drawn.

    Parameters
    ----------
    features : ndarray, shape (n, k)
    """
    apart = np.linalg.norm(features[:, None] - features[None], axis=2)
    if apart.max() <= 1e-6 * max(1e-12, float(np.abs(features).max())):
        return np.zeros(len(features), bool)
    centres = features[list(np.unravel_index(int(np.argmax(apart)), apart.shape))]
    group = np.zeros(len(features), bool)
    # Each step lowers the sum of squares, and there are finitely many groups.
    while True:
        to_first, to_second = (np.linalg.norm(features - centre, axis=1) for centre in centres)
        fresh = to_second < to_first
        if (fresh == group).all():
            return group
        group = fresh
        if group.any() and not group.all():
            centres = np.stack([features[~group].mean(axis=0), features[group].mean(axis=0)])

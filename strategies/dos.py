"""Distance-based outlier suppression: weights by how outlying the row of distances is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedrobust.aggregation.geometry import cosines, significant, squared_distances
from fedrobust.federation import Defence, Updates, Verdict

__all__ = ["DOS"]

Floats = NDArray[np.float64]


class DOS(Defence):
    """Weighs by COPOD's outlier scores of the distances between updates (Alkhunaizi et al., MICCAI 2022).

    Algorithm
    ---------
    Row i of the n x n matrix of Euclidean distances, and of that of cosine distances, is a point.
    Copula-based outlier detection (COPOD) scores the points of each matrix; the weights are the softmax of
    minus the mean of the two scores.

    Notes
    -----
    Breakdown point: none is proven; outlying rows are a minority's. Cost: O(n^2 d + n^3). No assumed number
    of Byzantine hospitals and no option. Distances are between the differences from the global model.
    Hospitals are scored but not flagged.

    References
    ----------
    Alkhunaizi, Kamzolov, Takac and Nandakumar, "Suppressing poisoning attacks on federated learning for
    medical imaging", MICCAI 2022, algorithm 1.

    Li, Zhao, Botta, Ionescu and Hu, "COPOD: copula-based outlier detection", ICDM 2020.
    """

    def weigh(self, updates: Updates) -> Verdict:
        """Return softmax weights."""
        gram = updates.gram()
        angles = 1.0 - cosines(gram)
        np.fill_diagonal(angles, 0.0)
        lengths = np.sqrt(squared_distances(gram))
        # Only the order counts: what differs by rounding is equal, or it would be ranked.
        lengths = significant(lengths / (lengths.max() or 1.0))
        score = (_copod(lengths) + _copod(np.round(angles, 9))) / 2
        weight = np.exp(score.min() - score)
        return Verdict(weight / weight.sum(), score)


def _copod(points: Floats) -> Floats:
    """Return outlier scores of points, shape (n,) for (n, dimensions).

    In each dimension U is minus the logarithm of the share of points that are at most as large, V that of
    those at least as large. The skewness chooses U, V or, at 0, their sum; the larger of that and (U + V) / 2
    is summed over the dimensions. The COPOD authors' library pyod, which the authors of DOS ran, does the
    same; COPOD's paper takes the largest of the three sums instead.
    """
    left = -np.log((points[None] <= points[:, None]).mean(axis=1))
    right = -np.log((points[None] >= points[:, None]).mean(axis=1))
    skewness = ((points - points.mean(axis=0)) ** 3).mean(axis=0)
    chosen = np.where(skewness < 0, left, np.where(skewness > 0, right, left + right))
    return np.asarray(np.maximum(chosen, (left + right) / 2).sum(axis=1))

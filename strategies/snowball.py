"""Hospitals elect their like layer by layer, and the elected elect who fits to them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from fedrobust.aggregation.geometry import significant, squared_distances
from fedrobust.federation import Defence, Layer, Updates, Verdict
from fedrobust.plugins.options import PositiveFraction

__all__ = ["Snowball"]

Floats = NDArray[np.float64]

#: Fewer hospitals elect nobody: all are kept.
FEWEST = 4
#: The first elected: two at least, as one has no differences to learn from.
SEEDS = 2


class Snowball(Defence):
    """Averages hospitals that others elect for likeness, then those that fit to them (Qin et al., AAAI 2024).

    Algorithm
    ---------
    Bottom-up: in the first and the last weight matrix, each hospital divides the updates by k-means that
    begin at its own and at the `far` farthest from it. It votes for those in its group, with the
    Calinski-Harabasz score of the division, scaled to [0, 1] within the layer. The tenth with the most votes
    is elected, two at least; of equal votes the hospital nearer to all others goes first. Top-down: as long
    as fewer than `keep` of the hospitals are elected, a twentieth joins, those whose differences from the
    elected are best explained by the differences among these. The elected are averaged, the others flagged.
    The score is how far an update is from what the elected explain, as a share of the median distance between
    two updates.

    Parameters
    ----------
    far : int, optional
        Far updates at which k-means begin. Not given: a fifth of the hospitals, at least 1.
    keep : float
        Share of the hospitals to elect, in (0, 1]; 0.5 in the paper.

    Notes
    -----
    Breakdown point: none; attackers that resemble each other more than the honest elect each other. Cost: n
    k-means for each of two layers, on inner products of those layers alone. Hospitals are flagged in every
    round, as long as `keep` is below 1. With fewer than four all are kept. Deviations: the paper explains
    differences by a variational autoencoder that it trains in each round. A linear model takes its place, so
    what it cannot explain is the distance from the affine hull of the elected, and nothing is drawn or
    trained. Of networks with other names the paper's code looks at whatever has "conv1" or "fc" in it.

    References
    ----------
    Qin, Chen, Zhi and Deng, "Resisting backdoor attacks in federated learning via bidirectional elections and
    individual perspective", AAAI 2024, algorithm 1.
    """

    def __init__(self, far: PositiveInt | None = None, keep: PositiveFraction = 0.5) -> None:
        """Keep the options."""
        self.far, self.keep = far, keep

    def weigh(self, updates: Updates) -> Verdict:
        """Return weight 1 for the elected."""
        n = len(updates)
        if n < FEWEST:
            return Verdict(np.ones(n))
        inner = [_gram(updates, layer) for layer in _ends(updates.layers)]
        far = max(1, n // 5) if self.far is None else self.far
        votes = np.sum([_votes(one, min(far, n - 2)) for one in inner], axis=0)
        total = np.sum(inner, axis=0)
        far_away = squared_distances(total).sum(axis=1)
        ranked = np.lexsort((significant(far_away), -significant(votes)))
        elected = ranked[: max(SEEDS, math.ceil(n / 10))].tolist()
        while len(elected) < math.ceil(self.keep * n - 1e-9):
            away = significant(_unexplained(total, elected))
            away[elected] = np.inf
            joining = min(max(1, n // 20), math.ceil(self.keep * n - 1e-9) - len(elected))
            elected += np.argsort(away, kind="stable")[:joining].tolist()
        kept = np.isin(np.arange(n), elected)
        between = np.sqrt(squared_distances(total)[np.triu_indices(n, 1)])
        away = np.sqrt(_unexplained(total, elected)) / max(float(np.median(between)), 1e-30)
        return Verdict(kept, np.where(kept, 0.0, away), ~kept)


def _ends(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Return the first and the last weight matrix, or all there is where there is none."""
    matrices = [layer for layer in layers if len(layer.shape) > 1] or list(layers)
    return (matrices[0],) if len(matrices) == 1 else (matrices[0], matrices[-1])


def _gram(updates: Updates, layer: Layer) -> Floats:
    wide = updates.block(layer.part).astype(np.float64)
    return np.asarray(np.dot(wide, wide.T))


def _votes(inner: Floats, far: int) -> Floats:
    """Return the votes for each hospital in one layer, shape (n,)."""
    squares = squared_distances(inner)
    groups, scores = [], []
    for own in range(len(squares)):
        others = np.argsort(-significant(squares[own]), kind="stable")
        group = _k_means(squares, [own, *(int(place) for place in others[:far])])
        groups.append(group == group[own])
        scores.append(_calinski_harabasz(squares, group))
    low, high = min(scores), max(scores)
    weights = (np.array(scores) - low) / (high - low) if high > low else np.ones(len(scores))
    return np.asarray(weights @ np.array(groups, float))


def _k_means(squares: Floats, starts: list[int]) -> NDArray[np.int64]:
    """Return the groups of k-means that begin at some points, from squared distances, shape (n,)."""
    n = len(squares)
    to_centres = squares[starts]
    group = np.full(n, -1)
    # Each step lowers the sum of squares, and there are finitely many groups.
    while True:
        fresh = np.argmin(significant(to_centres), axis=0)
        if (fresh == group).all():
            return group
        group = fresh
        rows = []
        for k in range(len(starts)):
            its = group == k
            # The mean squared distance to a group's points, less their spread around its centre.
            row = squares[its].mean(axis=0) - squares[np.ix_(its, its)].mean() / 2 if its.any() else None
            rows.append(np.full(n, np.inf) if row is None else row)
        to_centres = np.maximum(np.stack(rows), 0.0)


def _calinski_harabasz(squares: Floats, group: NDArray[np.int64]) -> float:
    """Return the score of a division: how far groups are apart, over how wide they are."""
    n, found = len(group), np.unique(group)
    within = sum(squares[np.ix_(group == k, group == k)].sum() / (2 * (group == k).sum()) for k in found)
    between = max(0.0, float(squares.sum() / (2 * n) - within))
    if len(found) < 2 or within <= 0:
        return 1.0
    return float(between / (len(found) - 1) / (within / (n - len(found))))


def _unexplained(inner: Floats, elected: list[int]) -> Floats:
    """Return each update's squared distance from the affine hull of the elected, shape (n,)."""
    base, rest = elected[0], elected[1:]
    squares = squared_distances(inner)
    # Inner products of differences from the first elected.
    among = (squares[base][:, None] + squares[base][None] - squares) / 2
    basis = np.linalg.pinv(among[np.ix_(rest, rest)], rcond=1e-9, hermitian=True)
    explained = np.einsum("ij,ik,jk->k", basis, among[rest], among[rest])
    return np.asarray(np.maximum(squares[base] - explained, 0.0))

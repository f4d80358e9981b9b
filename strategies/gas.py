"""A robust rule on short pieces, which score whole updates."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt

from fedrobust.aggregation.geometry import krum_scores, significant, squared_distances
from fedrobust.aggregation.tolerance import AssumedByzantine
from fedrobust.federation import Defence, Updates, Verdict
from fedrobust.seeding import generator

__all__ = ["GAS"]

Floats = NDArray[np.float64]


class GAS(Defence):
    """Averages the n - f updates nearest to a rule's results on random pieces (Liu et al., ICML 2023).

    Algorithm
    ---------
    The coordinates are drawn into p pieces. On each, the base rule gives a point R; the score of an update is
    the sum over the pieces of its distance to R. The n - f lowest scores are averaged; the others are
    flagged.

    Parameters
    ----------
    f : int, optional
        Byzantine hospitals to tolerate, 2f + 3 <= n. Not given: a third of the hospitals, or as many as that
        allows.
    p : int
        Pieces; as many as there are parameters if they are fewer.
    base : str
        ``krum`` or ``median``.

    Notes
    -----
    Breakdown point: below half of the hospitals. Cost: O(n^2 d). Two updates that are each other's nearest
    may have equal Krum scores on a piece; the lower hospital number counts.

    References
    ----------
    Liu, Chen, Lyu, Wu, Wu and Chen, "Byzantine-robust learning on heterogeneous data via gradient splitting",
    ICML 2023, algorithm 1.
    """

    def __init__(
        self,
        f: NonNegativeInt | None = None,
        p: PositiveInt = 1000,
        base: Literal["krum", "median"] = "krum",
    ) -> None:
        """Keep the options."""
        self._assumed = AssumedByzantine("gas", f, lambda n: (n - 3) // 2, "n >= 2f + 3")
        self.p, self.base = p, base

    def check(self, hospitals: int) -> None:
        """Refuse an f that Krum does not tolerate."""
        self._assumed.check(hospitals)

    def weigh(self, updates: Updates) -> Verdict:
        """Return weight 1 for the n - f lowest scores."""
        n = len(updates)
        f, note = self._assumed.at(n)
        order = generator(updates.seed, "gas", updates.round).permutation(updates.dimension)
        score = np.zeros(n)
        for columns in np.array_split(order, min(self.p, updates.dimension)):
            score += self._distances(updates.take(np.sort(columns)).astype(np.float64), f)
        kept = np.zeros(n, bool)
        kept[np.argsort(significant(score), kind="stable")[: n - f]] = True
        return Verdict(kept, score, ~kept, note)

    def _distances(self, piece: Floats, f: int) -> Floats:
        """Return each update's distance to the base rule's point on a piece, shape (n,)."""
        if self.base == "median":
            return np.asarray(np.linalg.norm(piece - np.median(piece, axis=0), axis=1))
        squares = squared_distances(piece @ piece.T)
        return np.asarray(np.sqrt(squares[int(np.argmin(significant(krum_scores(squares, f))))]))

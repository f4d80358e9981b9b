"""Divide and conquer: updates that stick out along the main direction of disagreement are left out."""

from __future__ import annotations

import numpy as np

from fedrobust.aggregation.geometry import significant, whole
from fedrobust.aggregation.tolerance import AssumedByzantine
from fedrobust.errors import UserError
from fedrobust.federation import Defence, Updates, Verdict
from fedrobust.seeding import generator

__all__ = ["DnC"]


class DnC(Defence):
    """Leaves out what projects furthest on the top singular vector (Shejwalkar and Houmansadr, NDSS 2021).

    Algorithm 2: in each iteration, b coordinates are drawn, the updates centred on them, and the c f updates
    with the largest squared projections on the top right singular vector are out; the mean of those never out
    follows. If none is left, those that were out least often stay. The score is the share of the squared
    projections, averaged over the iterations. Those left out are flagged. O(iterations n b) beside the mean.

    Parameters
    ----------
    f : int, optional
        Attackers to reckon with, fewer than half. Not given: a third of the hospitals.
    iterations : int
        niters of the paper.
    c : float
        Filtering fraction: updates to leave out for each attacker.
    b : int
        Coordinates to draw; all if there are fewer.
    """

    def __init__(self, f: int | None = None, iterations: int = 5, c: float = 1.0, b: int = 10_000) -> None:
        """Check the options."""
        self._f = AssumedByzantine("dnc", f, lambda n: (n - 1) // 2, "n >= 2f + 1")
        self.iterations = whole("dnc", "iterations", iterations, 1)
        if not c > 0:
            raise UserError(f"dnc: c is {c}, but must be above 0")
        self.c = c
        self.b = whole("dnc", "b", b, 1)

    def check(self, hospitals: int) -> None:
        """Refuse an f that makes the attackers the majority."""
        self._f.check(hospitals)

    def weigh(self, updates: Updates) -> Verdict:
        """Return weight 0 for those that stick out in any iteration."""
        n, d = len(updates), updates.dimension
        f, note = self._f.at(n)
        out = min(int(self.c * f), n - 1)
        draw = generator(updates.seed, "dnc", updates.round)
        times, score = np.zeros(n, int), np.zeros(n)
        for _ in range(self.iterations):
            columns = np.sort(draw.choice(d, min(self.b, d), replace=False))
            some = updates.take(columns).astype(np.float64)
            some -= some.mean(axis=0)
            # The squared projections on the top right singular vector, from the small matrix's top
            # eigenvector.
            values, vectors = np.linalg.eigh(some @ some.T)
            squared = np.maximum(values[-1], 0.0) * vectors[:, -1] ** 2
            times[np.argsort(significant(squared), kind="stable")[n - out :]] += 1
            score += squared / (squared.sum() or 1.0) / self.iterations
        flagged = times > times.min()
        return Verdict(~flagged, score, flagged, note)

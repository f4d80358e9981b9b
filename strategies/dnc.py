"""Divide and conquer: updates far out along the main direction of disagreement are left out."""

from __future__ import annotations

import numpy as np
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from fedrobust.aggregation.geometry import significant
from fedrobust.aggregation.tolerance import AssumedByzantine
from fedrobust.federation import Defence, Updates, Verdict
from fedrobust.seeding import generator

__all__ = ["DnC"]


class DnC(Defence):
    """Leaves out what projects furthest on the top singular vector (Shejwalkar and Houmansadr, NDSS 2021).

    Algorithm
    ---------
    In each iteration, b coordinates are drawn, the updates are centred on them, and the c f updates with the
    largest squared projections on the top right singular vector are marked. The result is the mean of the
    updates that were never marked; if there is none, of those marked least often. The rest is flagged. The
    score is the share of the squared projections, averaged over the iterations.

    Parameters
    ----------
    f : int, optional
        Byzantine hospitals to tolerate, fewer than half. Not given: a third of the hospitals.
    iterations : int
        niters of the paper.
    c : float
        Filtering fraction: updates to leave out for each Byzantine hospital.
    b : int
        Coordinates to draw; all if there are fewer.

    Notes
    -----
    Breakdown point: f of n hospitals, below half. Cost: O(iterations n b) beside the mean.

    References
    ----------
    Shejwalkar and Houmansadr, "Manipulating the Byzantine: optimizing model poisoning attacks and defenses
    for federated learning", NDSS 2021, algorithm 2.
    """

    def __init__(
        self,
        f: NonNegativeInt | None = None,
        iterations: PositiveInt = 5,
        c: PositiveFloat = 1.0,
        b: PositiveInt = 10_000,
    ) -> None:
        """Keep the options."""
        self._assumed = AssumedByzantine("dnc", f, lambda n: (n - 1) // 2, "n >= 2f + 1")
        self.iterations = iterations
        self.c = c
        self.b = b

    def check(self, hospitals: int) -> None:
        """Refuse an f that makes the attackers the majority."""
        self._assumed.check(hospitals)

    def weigh(self, updates: Updates) -> Verdict:
        """Return weight 0 for those that are marked more often than the least."""
        n, d = len(updates), updates.dimension
        f, note = self._assumed.at(n)
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

"""The mean of the values around each coordinate's median."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt

from fedrobust.aggregation.sorting import mean_around_median
from fedrobust.aggregation.tolerance import AssumedByzantine
from fedrobust.federation import Defence, Updates, Vector, Verdict

__all__ = ["Meamed"]


class Meamed(Defence):
    """Averages the n - f values of every parameter that are nearest to its median (Xie et al., 2018).

    Algorithm
    ---------
    Mean around median: each parameter, and each running statistic, is the mean of the n - f values nearest to
    the median over the hospitals, which is the mean of the middle two where their number is even.

    Parameters
    ----------
    f : int, optional
        Values to drop, fewer than half of the hospitals. Not given: a third of them.

    Notes
    -----
    Breakdown point: f of n hospitals, below half. Cost: O(n log^2 n) a parameter. No hospital is flagged or
    scored.

    References
    ----------
    Xie, Koyejo and Gupta, "Generalized Byzantine-tolerant SGD", 2018, arXiv:1802.10116, definition 7.
    """

    def __init__(self, f: NonNegativeInt | None = None) -> None:
        """Keep the option."""
        self._assumed = AssumedByzantine("meamed", f, lambda n: (n - 1) // 2, "n >= 2f + 1")

    def check(self, hospitals: int) -> None:
        """Refuse an f that makes the attackers the majority."""
        self._assumed.check(hospitals)

    def combine(self, updates: Updates) -> tuple[Vector, Verdict]:
        """Return the mean around the median of every parameter."""
        n = len(updates)
        f, note = self._assumed.at(n)

        def rule(block: Vector) -> NDArray[np.float64]:
            return mean_around_median(block, f, between=True)

        return updates.by_coordinate(rule), Verdict(np.ones(n), why=note)

    def combine_buffers(self, updates: Updates) -> Vector:
        """Return the mean around the median of the running statistics."""
        f, _ = self._assumed.at(len(updates))
        block = np.stack([update.buffers for update in updates])
        return mean_around_median(block, f, between=True).astype(np.float32)

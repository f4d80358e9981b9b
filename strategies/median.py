"""The median of each coordinate."""

from __future__ import annotations

import numpy as np

from fedrobust.aggregation.sorting import median_of_rows
from fedrobust.federation import Defence, Updates, Vector, Verdict

__all__ = ["Median"]


class Median(Defence):
    """Takes the median of every parameter (Yin et al., ICML 2018, algorithm 1, option I).

    Algorithm
    ---------
    Each parameter, and each running statistic, is the median over the hospitals; of an even number of
    hospitals, the mean of the middle two.

    Notes
    -----
    Breakdown point: half of the hospitals. Cost: O(n log^2 n) a parameter. No hospital is flagged or scored.

    References
    ----------
    Yin, Chen, Kannan and Bartlett, "Byzantine-robust distributed learning: towards optimal statistical
    rates", ICML 2018.
    """

    def combine(self, updates: Updates) -> tuple[Vector, Verdict]:
        """Return the coordinate-wise median."""
        return updates.by_coordinate(median_of_rows), Verdict(np.ones(len(updates)))

    def combine_buffers(self, updates: Updates) -> Vector:
        """Return the coordinate-wise median of the running statistics."""
        return np.asarray(np.median([update.buffers for update in updates], axis=0))

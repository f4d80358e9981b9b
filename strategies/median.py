"""The median of each coordinate."""

from __future__ import annotations

import numpy as np

from fedrobust.aggregation.sorting import median_of_rows
from fedrobust.federation import Defence, Updates, Vector, Verdict

__all__ = ["Median"]


class Median(Defence):
    """Takes the median of every parameter (Yin et al., ICML 2018, algorithm 1, option I).

    Of an even number of hospitals, the mean of the middle two; so of running statistics. Breaks down at half of the
    hospitals. O(n log^2 n) a parameter; judges no hospital.
    """

    def combine(self, updates: Updates) -> tuple[Vector, Verdict]:
        """Return the coordinate-wise median."""
        return updates.by_coordinate(median_of_rows), Verdict(np.ones(len(updates)))

    def combine_buffers(self, updates: Updates) -> Vector:
        """Return the coordinate-wise median of the running statistics."""
        return np.asarray(np.median([update.buffers for update in updates], axis=0))

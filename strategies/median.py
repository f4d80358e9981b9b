"""The median of each coordinate."""

from __future__ import annotations

import numpy as np

from fedrobust.aggregation.shares import Cap, capped_shares, trust_sizes, weighted_median
from fedrobust.aggregation.sorting import median_of_rows
from fedrobust.federation import Defence, Updates, Vector, Verdict

__all__ = ["Median"]


class Median(Defence):
    """Takes the median of every parameter (Yin et al., ICML 2018, algorithm 1, option I).

    Algorithm
    ---------
    Each parameter, and each running statistic, is the median over the hospitals; of an even number of
    hospitals, the mean of the middle two. With `cap` it is the weighted median, the mean of the lower and the
    upper one.

    Parameters
    ----------
    cap : float, optional
        Weigh hospitals by their reported numbers of images, with no share above this one, in (0, 1]. Not
        given: equal weights.

    Notes
    -----
    Breakdown point: half of the hospitals. Cost: O(n log^2 n) a parameter. No hospital is flagged or scored.

    References
    ----------
    Yin, Chen, Kannan and Bartlett, "Byzantine-robust distributed learning: towards optimal statistical
    rates", ICML 2018.
    """

    def __init__(self, cap: Cap = None) -> None:
        """Keep the option."""
        self.cap = cap
        if cap is not None:
            trust_sizes(self)

    def combine(self, updates: Updates) -> tuple[Vector, Verdict]:
        """Return the coordinate-wise median."""
        if self.cap is None:
            return updates.by_coordinate(median_of_rows), Verdict(np.ones(len(updates)))
        share = capped_shares(updates.num_examples, self.cap)
        return updates.by_coordinate(lambda block: weighted_median(block, share)), Verdict(share)

    def combine_buffers(self, updates: Updates) -> Vector:
        """Return the coordinate-wise median of the running statistics."""
        if self.cap is not None:
            share = capped_shares(updates.num_examples, self.cap)
            return weighted_median(np.stack([update.buffers for update in updates]), share).astype(np.float32)
        return np.asarray(np.median([update.buffers for update in updates], axis=0))

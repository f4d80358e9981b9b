"""The mean of each coordinate without its extremes."""

from __future__ import annotations

import numpy as np
from pydantic import NonNegativeInt

from fedrobust.aggregation.shares import Cap, capped_shares, trust_sizes, weighted_trimmed_mean
from fedrobust.aggregation.sorting import sort_rows
from fedrobust.aggregation.tolerance import AssumedByzantine
from fedrobust.federation import Defence, Updates, Vector, Verdict

__all__ = ["TrimmedMean"]


class TrimmedMean(Defence):
    """Averages every parameter without its f largest and f smallest values (Yin et al., ICML 2018).

    Algorithm
    ---------
    Each parameter, and each running statistic, is the mean over the hospitals without the f largest and the f
    smallest values; f takes the place of the paper's beta n.

    Parameters
    ----------
    f : int, optional
        Values to drop on each side, fewer than half of the hospitals. Not given: a third of them. With `cap`,
        f / n of the weight is cut on each side, which may leave a part of a value.
    cap : float, optional
        Weigh hospitals by their reported numbers of images, with no share above this one, in (0, 1]. Not
        given: equal weights.

    Notes
    -----
    Breakdown point: f of n hospitals, below half. Cost: O(n log^2 n) a parameter. No hospital is flagged or
    scored.

    References
    ----------
    Yin, Chen, Kannan and Bartlett, "Byzantine-robust distributed learning: towards optimal statistical
    rates", ICML 2018, algorithm 1, option II.
    """

    def __init__(self, f: NonNegativeInt | None = None, cap: Cap = None) -> None:
        """Keep the options."""
        self.cap = cap
        if cap is not None:
            trust_sizes(self)
        self._assumed = AssumedByzantine("trimmed-mean", f, lambda n: (n - 1) // 2, "n >= 2f + 1")

    def check(self, hospitals: int) -> None:
        """Refuse an f that leaves nothing over."""
        self._assumed.check(hospitals)

    def combine(self, updates: Updates) -> tuple[Vector, Verdict]:
        """Return the coordinate-wise trimmed mean."""
        n = len(updates)
        f, note = self._assumed.at(n)
        if self.cap is not None:
            share = capped_shares(updates.num_examples, self.cap)
            fresh = updates.by_coordinate(lambda block: weighted_trimmed_mean(block, share, f / n))
            return fresh, Verdict(share, why=note)

        def rule(block: Vector) -> Vector:
            kept = sort_rows(block, range(f, n - f))[f : n - f] if f else list(block)
            total = np.zeros(block.shape[1])
            for row in kept:
                total += row
            return np.asarray(total / len(kept), np.float32)

        return updates.by_coordinate(rule), Verdict(np.ones(n), why=note)

    def combine_buffers(self, updates: Updates) -> Vector:
        """Return the coordinate-wise trimmed mean of the running statistics."""
        n = len(updates)
        f, _ = self._assumed.at(n)
        if self.cap is not None:
            share = capped_shares(updates.num_examples, self.cap)
            block = np.stack([update.buffers for update in updates])
            return weighted_trimmed_mean(block, share, f / n).astype(np.float32)
        rows = np.sort([update.buffers for update in updates], axis=0)[f : n - f]
        return np.asarray(np.mean(rows, axis=0, dtype=np.float64))

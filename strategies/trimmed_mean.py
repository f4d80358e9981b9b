"""The mean of each coordinate without its extremes."""

from __future__ import annotations

import numpy as np

from fedrobust.aggregation.sorting import sort_rows
from fedrobust.aggregation.tolerance import AssumedByzantine
from fedrobust.federation import Defence, Updates, Vector, Verdict

__all__ = ["TrimmedMean"]


class TrimmedMean(Defence):
    """Averages every parameter without its f largest and f smallest values (Yin et al., ICML 2018).

    Algorithm 1, option II, of the paper, with f for beta times n; so of running statistics. O(n log^2 n) a parameter;
    judges no hospital.

    Parameters
    ----------
    f : int, optional
        Values to drop on each side, fewer than half of the hospitals. Not given: a third of them.
    """

    def __init__(self, f: int | None = None) -> None:
        """Check the options."""
        self._f = AssumedByzantine("trimmed-mean", f, lambda n: (n - 1) // 2, "n >= 2f + 1")

    def check(self, hospitals: int) -> None:
        """Refuse an f that leaves nothing over."""
        self._f.check(hospitals)

    def combine(self, updates: Updates) -> tuple[Vector, Verdict]:
        """Return the coordinate-wise trimmed mean."""
        n = len(updates)
        f, note = self._f.at(n)

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
        f, _ = self._f.at(n)
        rows = np.sort([update.buffers for update in updates], axis=0)[f : n - f]
        return np.asarray(np.mean(rows, axis=0, dtype=np.float64))

"""Updates no longer than most."""

from __future__ import annotations

import numpy as np

from fedrobust.aggregation.clipping import clip_factors
from fedrobust.aggregation.tolerance import AssumedByzantine
from fedrobust.federation import PreAggregation, Updates
from fedrobust.federation.mixed import Mixed

__all__ = ["ARC"]


class ARC(PreAggregation):
    """Shortens the longest updates to the length of the next (ARC: Allouah et al., ICLR 2025).

    Algorithm 2: with k = floor(2 f / n (n - f)), all are clipped to the length of the (k + 1)-th longest. O(n
    d).

    Parameters
    ----------
    f : int, optional
        Attackers to reckon with, fewer than half. Not given: a third of the hospitals.
    """

    def __init__(self, f: int | None = None) -> None:
        """Check the options."""
        self._f = AssumedByzantine("arc", f, lambda n: (n - 1) // 2, "n >= 2f + 1")

    def check(self, hospitals: int) -> int:
        """Refuse an f that makes the attackers the majority."""
        self._f.check(hospitals)
        return hospitals

    def transform(self, updates: Updates) -> Updates:
        """Return the clipped updates."""
        n = len(updates)
        f, _ = self._f.at(n)
        norms = updates.norms()
        bound = np.sort(norms)[n - 1 - 2 * f * (n - f) // n]
        return Mixed(updates, np.diag(clip_factors(norms, bound)))

"""Updates no longer than most."""

from __future__ import annotations

import numpy as np
from pydantic import NonNegativeInt

from fedrobust.aggregation.clipping import clip_factors
from fedrobust.aggregation.tolerance import AssumedByzantine
from fedrobust.federation import PreAggregation, Updates
from fedrobust.federation.mixed import Mixed

__all__ = ["ARC"]


class ARC(PreAggregation):
    """Clips the longest updates to the length of the next (ARC: Allouah et al., ICLR 2025).

    Algorithm
    ---------
    With k = floor(2 f / n (n - f)), all updates are clipped to the length of the (k + 1)-th longest.

    Parameters
    ----------
    f : int, optional
        Byzantine hospitals to tolerate, fewer than half. Not given: a third of the hospitals.

    Notes
    -----
    Breakdown point: that of the rule behind it; it only bounds how far an update reaches. Cost: O(n d).

    References
    ----------
    Allouah, Guerraoui, Gupta, Jellouli, Rizk and Stephan, "Adaptive gradient clipping for robust federated
    learning", ICLR 2025, algorithm 2.
    """

    def __init__(self, f: NonNegativeInt | None = None) -> None:
        """Keep the option."""
        self._assumed = AssumedByzantine("arc", f, lambda n: (n - 1) // 2, "n >= 2f + 1")

    def check(self, hospitals: int) -> int:
        """Refuse an f that makes the attackers the majority."""
        self._assumed.check(hospitals)
        return hospitals

    def transform(self, updates: Updates) -> Updates:
        """Return the clipped updates."""
        n = len(updates)
        f, _ = self._assumed.at(n)
        norms = updates.norms()
        bound = np.sort(norms)[n - 1 - 2 * f * (n - f) // n]
        return Mixed(updates, np.diag(clip_factors(norms, bound)))

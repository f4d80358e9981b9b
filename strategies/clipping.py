"""Updates no longer than a fixed bound."""

from __future__ import annotations

import numpy as np
from pydantic import PositiveFloat

from fedrobust.aggregation.clipping import clip_factors
from fedrobust.federation import PreAggregation, Updates
from fedrobust.federation.mixed import Mixed

__all__ = ["Clipping"]


class Clipping(PreAggregation):
    """Clips updates that are longer than a fixed bound (Allouah et al., ICLR 2025, equation 2).

    Algorithm
    ---------
    Each difference from the global model is multiplied by min(1, c / its length).

    Parameters
    ----------
    c : float
        The bound, in the parameters' units.

    Notes
    -----
    Breakdown point: that of the rule behind it. Cost: O(n d). An absolute length suits one model only: see
    `arc` for a bound that follows the updates.

    References
    ----------
    Allouah, Guerraoui, Gupta, Jellouli, Rizk and Stephan, "Adaptive gradient clipping for robust federated
    learning", ICLR 2025.
    """

    def __init__(self, c: PositiveFloat = 2.0) -> None:
        """Keep the option."""
        self.c = c

    def transform(self, updates: Updates) -> Updates:
        """Return updates of at most that length."""
        return Mixed(updates, np.diag(clip_factors(updates.norms(), self.c)))

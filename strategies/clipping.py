"""Updates no longer than a fixed bound."""

from __future__ import annotations

import numpy as np

from fedrobust.aggregation.clipping import clip_factors
from fedrobust.errors import UserError
from fedrobust.federation import PreAggregation, Updates
from fedrobust.federation.mixed import Mixed

__all__ = ["Clipping"]


class Clipping(PreAggregation):
    """Shortens updates that are longer than a fixed bound (Allouah et al., ICLR 2025, equation 2).

    The factor is min(1, c / |delta|). As an absolute length suits one model only, see `arc` for a bound that
    follows the updates. O(n d).

    Parameters
    ----------
    c : float
        The bound, in the parameters' units.
    """

    def __init__(self, c: float = 2.0) -> None:
        """Check the option."""
        if not c > 0:
            raise UserError(f"clipping: c is {c}, but must be above 0")
        self.c = c

    def transform(self, updates: Updates) -> Updates:
        """Return updates of at most that length."""
        return Mixed(updates, np.diag(clip_factors(updates.norms(), self.c)))

"""Sign flip: the opposite of what was learned."""

from __future__ import annotations

import math

from fedrobust.errors import UserError
from fedrobust.federation import Attack, Update

__all__ = ["SignFlip"]


class SignFlip(Attack):
    """Sends the difference from the global model with its sign turned, scaled.

    The sign-flipping attack of Li et al., "RSA: Byzantine-Robust Stochastic Aggregation Methods", AAAI 2019, on the
    difference that the hospital learned: delta becomes -scale delta. Running statistics stay as trained.

    Parameters
    ----------
    scale : float
        Positive; 1 keeps the length.
    """

    def __init__(self, scale: float = 1.0) -> None:
        """Check the options."""
        if not (scale > 0 and math.isfinite(scale)):
            raise UserError(f"sign-flip: scale is {scale}, but must be positive")
        self.scale = scale

    def poison_update(self, update: Update) -> Update:
        """Return the update turned round."""
        return update.with_delta(-self.scale * update.delta)

"""Sign flip: the opposite of what was learned."""

from __future__ import annotations

from pydantic import PositiveFloat

from fedrobust.federation import Attack, Update

__all__ = ["SignFlip"]


class SignFlip(Attack):
    """Sends the negative of the difference from the global model, scaled.

    The sign-flipping attack of Li et al., "RSA: Byzantine-Robust Stochastic Aggregation Methods", AAAI 2019,
    on the difference that the hospital learned: delta becomes -scale delta. Running statistics stay as
    trained.

    Parameters
    ----------
    scale : float
        1 keeps the length.
    """

    def __init__(self, scale: PositiveFloat = 1.0) -> None:
        """Keep the option."""
        self.scale = scale

    def poison_update(self, update: Update) -> Update:
        """Return the update with a scaled negative difference."""
        return update.with_delta(-self.scale * update.delta)

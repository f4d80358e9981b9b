"""Own training: more epochs, another learning rate, and a ball that the model must not leave."""

from __future__ import annotations

from pydantic import PositiveFloat, PositiveInt

from fedrobust.federation import Attack, LocalTraining

__all__ = ["OwnTraining"]


class OwnTraining(Attack):
    """Trains as the attacker likes rather than as the server asks; used with an attack on the records.

    Attackers of most papers on backdoors train longer, at another learning rate. With a radius the parameters
    are projected after each step onto the ball of that radius around the received model: projected gradient
    descent of Wang et al., "Attack of the Tails", NeurIPS 2020, which keeps the update short while the attack
    is learned, where a clipped update loses some of it.

    Parameters
    ----------
    epochs : int or None
        Local epochs; None for those of the settings.
    lr : float, optional
        The learning rate in all rounds; the round's unless given.
    radius : float, optional
        Of the ball, in the 2-norm of the parameters; none unless given.
    """

    def __init__(
        self,
        epochs: PositiveInt | None = 5,
        lr: PositiveFloat | None = None,
        radius: PositiveFloat | None = None,
    ) -> None:
        """Keep the options."""
        self.local_training = LocalTraining(epochs, lr, radius)

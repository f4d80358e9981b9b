"""Own training: more epochs, another learning rate, and a ball that the model must not leave."""

from __future__ import annotations

from pydantic import PositiveFloat, PositiveInt

from fedrobust.errors import UserError
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
    epochs : int, optional
        Local epochs; those of the settings unless given.
    lr : float, optional
        The learning rate in all rounds; the round's unless given.
    radius : float, optional
        Of the ball, in the 2-norm of the parameters; none unless given.
    """

    def __init__(
        self,
        epochs: PositiveInt | None = None,
        lr: PositiveFloat | None = None,
        radius: PositiveFloat | None = None,
    ) -> None:
        """Keep the options."""
        if epochs is None and lr is None and radius is None:
            raise UserError("own-training: trains like an honest hospital; give epochs, lr or radius")
        self.local_training = LocalTraining(epochs, lr, radius)

"""Server step: the server trains each new model on its own images, and the model goes a part of the way."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from fedrobust.aggregation.own_training import after_own_training
from fedrobust.federation import Model, Repair
from fedrobust.plugins.options import PositiveFraction

__all__ = ["ServerStep"]


class ServerStep(Repair):
    """Goes a part of the way to what the server's own training makes of the model.

    Algorithm
    ---------
    The server trains the new model on its images as a hospital would, for one epoch. With v what becomes of
    w, the round ends with w + step (v - w). It is the last part of `isolation-forest`, for any rule: ``fedavg
    | server-step`` shows what the server's labels are worth without a defence.

    Parameters
    ----------
    step : float
        How much of the way, in [0, 1].
    share : float
        Share of the server's validation part to train on, in (0, 1].

    Notes
    -----
    Cost: one epoch of training on these images. Where the training diverges the model stays.
    """

    needs_server: ClassVar[bool] = True

    def __init__(
        self, step: Annotated[float, Field(ge=0, le=1)] = 0.5, share: PositiveFraction = 0.5
    ) -> None:
        """Keep the options."""
        self.step = step
        self.server_share = share

    def repair(self, model: Model) -> Model:
        """Return the model after the step."""
        return after_own_training(model, self.images(), self.step)

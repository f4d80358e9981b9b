"""Server step: the server trains each new model on its own images, and the model goes a part of the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from fedrobust.federation import Model, Repair, Vector
from fedrobust.plugins.options import PositiveFraction

__all__ = ["ServerStep"]


class ServerStep(Repair):
    """Goes a part of the way to what the server's own training makes of the model.

    Algorithm
    ---------
    The server trains the new model on its images as a hospital would: the same loss, the same epochs. With v
    what becomes of w, the round ends with w + step (v - w). It is the last part of `isolation-forest`, for
    any rule: ``fedavg | server-step`` shows what the server's labels are worth without a defence.

    Parameters
    ----------
    step : float
        How much of the way, in [0, 1].
    share : float
        Share of the server's validation part to train on, in (0, 1].

    Notes
    -----
    Cost: the training of one hospital with these images. Where the training diverges the model stays.
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
        own = self.images().trained(model.parameters, model.buffers, model.round)
        if not np.isfinite(own.parameters).all():
            return model
        return replace(
            model,
            parameters=_between(model.parameters, own.parameters, self.step),
            buffers=_between(model.buffers, own.buffers, self.step),
        )


def _between(start: Vector, end: Vector, step: float) -> Vector:
    return np.asarray(start + np.float32(step) * (end - start), np.float32)

"""A step of the server's own: the model goes towards what training on the server's images makes of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fedrobust.federation import Model, ServerData, Vector

__all__ = ["after_own_training"]


def after_own_training(model: Model, server: ServerData, step: float) -> Model:
    """Return a model on its way to what an epoch of a hospital with the server's images makes of it.

    Parameters
    ----------
    model : Model
        Its arrays stay untouched.
    server : ServerData
    step : float
        How much of the way, in [0, 1].

    Returns
    -------
    Model
        The given one if the training diverges.
    """
    # The model goes a part of the way only: a second epoch would cost as much again.
    own = server.trained(model.parameters, model.buffers, model.round, epochs=1)
    if not np.isfinite(own.parameters).all():
        return model
    return replace(
        model,
        parameters=_between(model.parameters, own.parameters, step),
        buffers=_between(model.buffers, own.buffers, step),
    )


def _between(start: Vector, end: Vector, step: float) -> Vector:
    return np.asarray(start + np.float32(step) * (end - start), np.float32)

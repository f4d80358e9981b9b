"""Steps down the gradient on batches of the server's images, for rules that train a model on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fedrobust.aggregation.passes import balanced_batches
from fedrobust.federation import Model, ServerData, ServerModel

__all__ = ["balanced_descent", "descended"]

Places = NDArray[np.int64]


def descended(
    model: Model, server: ServerModel, batches: Iterable[tuple[Places, Callable[[float], float]]]
) -> Model:
    """Return a model after a step for each batch; running statistics and the given arrays stay as they are.

    Parameters
    ----------
    model : Model
    server : ServerModel
    batches : iterable of tuple
        The places of a batch's images, and what turns the length of their gradient into the factor by which
        the step goes against it.
    """
    parameters = np.array(model.parameters, np.float32)
    for batch, factor in batches:
        gradient = server.gradient(parameters, model.buffers, server.images[batch], server.labels[batch])
        wide = gradient.astype(np.float64)
        parameters = (parameters - factor(float(np.linalg.norm(wide))) * wide).astype(np.float32)
    return replace(model, parameters=parameters)


def balanced_descent(model: Model, server: ServerData | None, far: float, steps: int, batch: int) -> Model:
    """Return a model after steps of one length down the gradient on as many images of each class.

    Parameters
    ----------
    model : Model
    server : ServerData or None
    far : float
        The length of all steps together.
    steps : int
    batch : int
        Images of a step.

    Returns
    -------
    Model
        The given one if the server has no images with gradients, or one is not finite.
    """
    if not isinstance(server, ServerModel) or not far:
        return model
    places = balanced_batches(server.labels, batch, steps, "balanced descent", model.seed, model.round)
    found = descended(
        model, server, [(one, lambda length: far / steps / max(length, 1e-30)) for one in places]
    )
    return found if np.isfinite(found.parameters).all() else model

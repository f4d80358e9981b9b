"""Fine-pruning: neurons that the server's images leave idle are removed, then the rest is trained on."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from fedrobust.aggregation.passes import passes
from fedrobust.errors import UserError
from fedrobust.federation import Layer, Model, Repair, ServerModel, Vector
from fedrobust.plugins.options import Fraction, PositiveFraction

__all__ = ["FinePruning"]

#: Pruning goes on by this share of the neurons at a time, each an evaluation of the server's images.
STEP = 0.05


class FinePruning(Repair):
    """Removes the neurons that clean images use least, then trains on (Liu et al., RAID 2018).

    Algorithm
    ---------
    The neurons that enter the last layer are ordered by their mean size on the server's images. The most
    dormant are removed, a twentieth at a time, as long as the accuracy on these images stays within `drop` of
    the unpruned model's and no more than `most` are removed. The model then makes `epochs` passes of
    stochastic gradient descent over the images, in which what is removed stays so.

    Parameters
    ----------
    drop : float
        Accuracy that pruning may cost; 0.04 in the paper.
    most : float
        Largest share of the neurons to remove.
    epochs : int
        Passes of the training after it.
    lr : float
        Its learning rate.
    batch : int
        Images of a step.
    start : int
        First round to repair.
    share : float
        Share of the server's validation part to use, in (0, 1].

    Notes
    -----
    Cost: at most 20 evaluations of the server's images, and `epochs` passes over them. Deviations: the paper
    repairs a finished model, this one each round's from `start` on, and hospitals may train again what was
    removed. A neuron is an input of the last layer, and is removed by zeros in that layer's weights; the
    paper prunes filters of the last convolution, whose zeros a normalisation behind it would turn into its
    shift. Each network of an ensemble loses the same share. Running statistics stay the defence's.

    References
    ----------
    Liu, Dolan-Gavitt and Garg, "Fine-pruning: defending against backdooring attacks on deep neural networks",
    RAID 2018, section 4.
    """

    needs_server: ClassVar[bool] = True

    def __init__(
        self,
        drop: Fraction = 0.04,
        most: PositiveFraction = 0.9,
        epochs: NonNegativeInt = 1,
        lr: PositiveFloat = 0.01,
        batch: PositiveInt = 32,
        start: PositiveInt = 1,
        share: Annotated[float, Field(gt=0, le=1)] = 0.5,
    ) -> None:
        """Keep the options."""
        self.drop, self.most, self.epochs, self.lr = drop, most, epochs, lr
        self.batch, self.start = batch, start
        self.server_share = share

    def repair(self, model: Model) -> Model:
        """Return the model without the most dormant neurons, trained on."""
        if model.round < self.start:
            return model
        server = self.model()
        kept = self._kept(model, server)
        parameters = model.parameters * kept
        for _, batch in passes(
            len(server.labels), self.batch, self.epochs, "fine-pruning", model.seed, model.round
        ):
            gradient = server.gradient(parameters, model.buffers, server.images[batch], server.labels[batch])
            parameters = parameters - np.float32(self.lr) * kept * gradient
        return replace(model, parameters=parameters)

    def _kept(self, model: Model, server: ServerModel) -> Vector:
        """Return 0 for the weights of removed neurons and 1 for all others, shape (d,)."""
        dormant = _by_use(model, server)
        kept = np.ones(len(model.parameters), np.float32)
        bound = _accuracy(server, model.parameters, model.buffers) - self.drop
        for step in range(1, int(self.most / STEP + 1e-9) + 1):
            fewer = np.ones_like(kept)
            for layer, order in dormant:
                layer.of(fewer)[:, order[: int(step * STEP * len(order))]] = 0
            if _accuracy(server, model.parameters * fewer, model.buffers) < bound - 1e-9:
                break
            kept = fewer
        return kept


def _by_use(model: Model, server: ServerModel) -> list[tuple[Layer, NDArray[np.int64]]]:
    """Return each network's last layer with its inputs, those that the images use least first."""
    layers = {layer.name: layer for layer in model.layout.parameters} if model.layout else {}
    found = []
    for name, active in server.features(model.parameters, model.buffers, server.images).items():
        layer = layers.get(name)
        if layer is None or len(layer.shape) != 2 or layer.shape[1] != active.shape[1]:
            raise UserError(
                "fine-pruning needs a network that ends in a linear layer of known place; choose another "
                "--backbone, or another repair"
            )
        use = np.abs(active).mean(axis=0, dtype=np.float64)
        found.append((layer, np.argsort(use, kind="stable")))
    return found


def _accuracy(server: ServerModel, parameters: Vector, buffers: Vector) -> float:
    answers = server.probabilities(parameters, buffers, server.images).argmax(axis=1)
    return float((answers == server.labels).mean())

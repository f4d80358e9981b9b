"""Clipped super-fine-tuning: a few steps of large learning rate on the server's images after each round."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from fedrobust.aggregation.passes import passes
from fedrobust.federation import Model, Repair

__all__ = ["CSFT"]


class CSFT(Repair):
    """Fine-tunes the new model on the server's images at a cyclic large rate (Hammer and Anvil, 2025).

    Algorithm
    ---------
    After each round the model makes `epochs` passes over the server's images by stochastic gradient descent.
    Within each pass the learning rate rises from a hundredth of `lr` to `lr` and falls back, in a triangle;
    each gradient is clipped to the length `clip`.

    Parameters
    ----------
    epochs : int
        Passes over the server's images in each round.
    lr : float
        The largest learning rate.
    clip : float
        The largest length of a gradient.
    batch : int
        Images of a step.
    share : float
        Share of the server's validation part to train on, in (0, 1].

    Notes
    -----
    It is no defence by itself but the second of two kinds: an outlier rule before it keeps what it can, as in
    ``flame | csft``. Cost: `epochs` passes over the server's images. Gradients are taken with dropout off and
    fixed running statistics, which stay the defence's. The networks of an ensemble learn by themselves.

    References
    ----------
    "Hammer and Anvil: a principled defense against backdoors in federated learning", 2025, arXiv:2509.08089;
    the schedule: Sha, He, Berrang, Humbert and Zhang, "Fine-tuning is all you need to mitigate backdoor
    attacks", 2022, arXiv:2212.09067.
    """

    needs_server: ClassVar[bool] = True

    def __init__(
        self,
        epochs: NonNegativeInt = 2,
        lr: PositiveFloat = 0.05,
        clip: PositiveFloat = 1.0,
        batch: PositiveInt = 32,
        share: Annotated[float, Field(gt=0, le=1)] = 0.5,
    ) -> None:
        """Keep the options."""
        self.epochs, self.lr, self.clip, self.batch = epochs, lr, clip, batch
        self.server_share = share

    def repair(self, model: Model) -> Model:
        """Return the model after the passes."""
        server = self.model()
        parameters = np.array(model.parameters, np.float32)
        batches = passes(len(server.labels), self.batch, self.epochs, "csft", model.seed, model.round)
        for behind, batch in batches:
            gradient = server.gradient(
                parameters, model.buffers, server.images[batch], server.labels[batch]
            ).astype(np.float64)
            length = float(np.linalg.norm(gradient))
            step = self.lr * _triangle(behind) * min(1.0, self.clip / max(length, 1e-30))
            parameters = (parameters - step * gradient).astype(np.float32)
        return replace(model, parameters=parameters)


def _triangle(behind: float) -> float:
    """Return the share of the largest rate within a pass: a hundredth at both ends, 1 in the middle."""
    return 0.01 + 0.99 * (1 - abs(2 * behind - 1))

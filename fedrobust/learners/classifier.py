"""The trained networks as one differentiable module, and the views of an image that it averages over."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["MOST_VIEWS", "Classifier", "view_of"]

#: Each view: whether it is flipped from left to right, and its shifts down and right in steps.
_VIEWS = (
    *((False, 0, 0), (False, 0, 1), (False, 0, -1), (False, 1, 0), (False, -1, 0)),
    *((True, 0, 0), (True, 0, 1), (True, 0, -1), (True, 1, 0), (True, -1, 0)),
)
MOST_VIEWS = len(_VIEWS)

#: A step of a shift is this share of the image's side, one pixel at least.
_STEP = 1 / 64


def view_of(images: Tensor, number: int) -> Tensor:
    """Return a view of images, shape (n, channels, height, width): number 0 is the images themselves.

    A shift repeats the pixels at the edge.
    """
    flipped, down, right = _VIEWS[number]
    seen = images.flip(3) if flipped else images
    if not down and not right:
        return seen
    height, width = (max(1, round(side * _STEP)) for side in images.shape[2:])
    padded = functional.pad(seen, (width, width, height, height), mode="replicate")
    top, left = height * (1 - down), width * (1 - right)
    return padded[:, :, top : top + images.shape[2], left : left + images.shape[3]]


class Classifier(nn.Module):
    """Maps images in [0, 1] to the log of the mean probability over networks and views, shape (n, K).

    Parameters
    ----------
    networks : iterable of nn.Module
        Copied; their parameters are fixed, so that gradients are those of the images alone.
    frame : Tensor or None
        The fixed classifier, shape (d, K).
    temperature : float
        Of the softmax.
    views : int
        How many views of each image are averaged.
    """

    def __init__(
        self, networks: Iterable[nn.Module], frame: Tensor | None, temperature: float, views: int = 1
    ) -> None:
        """Copy the networks."""
        super().__init__()
        self.networks = nn.ModuleList(copy.deepcopy(network) for network in networks)
        self.requires_grad_(False)
        self.register_buffer("frame", None if frame is None else frame.detach().clone())
        self.temperature, self.views = temperature, views
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return the log-probabilities."""
        each = [
            functional.log_softmax(self._scores(network, view_of(images, number)) / self.temperature, dim=1)
            for number in range(self.views)
            for network in self.networks
        ]
        return torch.logsumexp(torch.stack(each), dim=0) - math.log(len(each))

    def _scores(self, network: nn.Module, images: Tensor) -> Tensor:
        outputs: Tensor = network((images - 0.5) * 4)
        frame = self.frame
        return functional.normalize(outputs, dim=1) @ frame if isinstance(frame, Tensor) else outputs

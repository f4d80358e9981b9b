"""Feature fusion: the features of several models side by side, and one linear classifier on all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Fusion"]


class Fusion(nn.Module):
    """Maps images in [0, 1] to log-probabilities from the features of many networks.

    Each network's features are scaled to unit length, so that no member counts more for its scale alone.
    Everything is differentiable: attacks see the ensemble as a whole.

    Parameters
    ----------
    networks : sequence of nn.Module
        All members' networks, without their classifiers; their parameters are fixed.

    References
    ----------
    Alzubaidi et al., "MEFF: a model ensemble feature fusion approach for tackling adversarial attacks in
    medical imaging", Intelligent Systems with Applications 22, 2024.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        """Keep the networks; `classify_by` gives them a classifier."""
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.requires_grad_(False)
        self.weights: Tensor
        self.biases: Tensor
        self.register_buffer("weights", torch.zeros(0, 0))
        self.register_buffer("biases", torch.zeros(0))
        self.eval()

    def features(self, images: Tensor) -> Tensor:
        """Return all features of images, shape (n, d)."""
        centred = (images - 0.5) * 4
        return torch.cat([functional.normalize(network(centred), dim=1) for network in self.networks], dim=1)

    def classify_by(self, weights: Tensor, biases: Tensor) -> None:
        """Take the weights, shape (K, d), and biases, shape (K,), of a linear classifier of the features."""
        self.weights, self.biases = weights, biases

    def forward(self, images: Tensor) -> Tensor:
        """Return the log-probabilities, shape (n, K)."""
        return functional.log_softmax(self.features(images) @ self.weights.T + self.biases, dim=1)

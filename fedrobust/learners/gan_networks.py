"""The two networks of a conditional GAN for images of 16 to 64 pixels, after DCGAN (Radford et al., 2016).

The generator gets its class as an embedding beside the noise; the discriminator has a projection of the class
(Miyato and Koyama, ICLR 2018). Any size and shape of image works: the last layer's output is cropped.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

__all__ = ["Discriminator", "Generator", "halvings"]

#: The generator begins with at most so many rows and columns, the last ones that a discriminator sees.
_BASE = 7

#: The widest layer, as a multiple of the narrowest: more costs time and gains nothing on small images.
_WIDEST = 4

_SLOPE = 0.2


def halvings(size: tuple[int, int]) -> int:
    """Return how often an image is halved until neither side is longer than the base."""
    count = 1
    while -(-max(size) // 2**count) > _BASE:
        count += 1
    return count


def _widths(width: int, count: int) -> list[int]:
    """Return the channels of so many layers, narrowest first."""
    return [width * min(2**place, _WIDEST) for place in range(count)]


class Generator(nn.Module):
    """Noise and a class to an image in [-1, 1].

    Parameters
    ----------
    latent : int
        Length of the noise.
    width : int
        Channels of the narrowest hidden layer.
    classes, channels : int
    size : tuple of int
        Height and width.
    """

    def __init__(self, latent: int, width: int, classes: int, channels: int, size: tuple[int, int]) -> None:
        """Draw the initial weights from torch's global generator."""
        super().__init__()
        count = halvings(size)
        widths = _widths(width, count)[::-1]
        self.size = size
        self._base = widths[0], *(-(-side // 2**count) for side in size)
        inputs = self._base[0] * self._base[1] * self._base[2]
        self.embedding = nn.Embedding(classes, latent)
        self.project = nn.Linear(2 * latent, inputs, bias=False)
        layers: list[nn.Module] = [nn.BatchNorm2d(widths[0]), nn.ReLU()]
        for before, after in zip(widths, [*widths[1:], None], strict=True):
            if after is None:
                layers += [nn.ConvTranspose2d(before, channels, 4, 2, 1), nn.Tanh()]
            else:
                layers += [
                    nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False),
                    nn.BatchNorm2d(after),
                    nn.ReLU(),
                ]
        self.layers = nn.Sequential(*layers)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        """Return images, shape (n, channels, height, width)."""
        given = torch.cat([noise, self.embedding(labels)], dim=1)
        height, width = self.size
        images: Tensor = self.layers(self.project(given).view(len(noise), *self._base))
        top, left = ((have - want) // 2 for have, want in zip(images.shape[2:], self.size, strict=True))
        return images[:, :, top : top + height, left : left + width]


class Discriminator(nn.Module):
    """An image and a class to a score: high where the image looks real for its class.

    Parameters
    ----------
    width, classes, channels : int
        See `Generator`.
    size : tuple of int
    normalised : bool
        Spectral normalisation of each layer (Miyato et al., ICLR 2018).
    """

    def __init__(
        self, width: int, classes: int, channels: int, size: tuple[int, int], normalised: bool
    ) -> None:
        """Draw the initial weights from torch's global generator."""
        super().__init__()
        count = halvings(size)
        widths = [channels, *_widths(width, count)]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(_SLOPE)]
        self.layers = nn.Sequential(*layers)
        with torch.no_grad():
            features = self.layers(torch.zeros(1, channels, *size)).numel()
        self.score = nn.Linear(features, 1)
        self.embedding = nn.Embedding(classes, features)
        nn.init.zeros_(self.embedding.weight)
        if normalised:
            for module in [m for m in self.modules() if isinstance(m, nn.Conv2d | nn.Linear)]:
                spectral_norm(module)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return scores, shape (n,)."""
        features = self.layers(images).flatten(1)
        projected = (features * self.embedding(labels)).sum(1) / features.shape[1] ** 0.5
        scores: Tensor = self.score(features).squeeze(1) + projected
        return scores

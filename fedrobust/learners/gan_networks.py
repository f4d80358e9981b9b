"""The two networks of a conditional GAN for images of 16 to 64 pixels, after DCGAN (Radford et al., 2016).

The generator makes an image of noise alone, and the class scales and shifts each of its normalised layers (de
Vries et al., NeurIPS 2017); the discriminator also says which class it sees (Odena et al., ICML 2017). Any
size and shape of image works: the last layer's output is cropped.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

__all__ = ["Discriminator", "Generator", "halvings"]

#: The generator begins with at most so many rows and columns, the last ones that a discriminator sees. With
#: more a discriminator of images of 28 pixels sees patches of them only.
_BASE = 4

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


class _ClassNorm(nn.Module):
    """Batch normalisation whose scale and shift are the class's own.

    A class that is an input beside the noise leads to images that are nearly the same within a class.
    """

    def __init__(self, width: int, classes: int) -> None:
        """Start all classes alike."""
        super().__init__()
        self.norm = nn.BatchNorm2d(width, affine=False)
        self.scale = nn.Embedding(classes, width)
        self.shift = nn.Embedding(classes, width)
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return features of the same shape."""
        scale, shift = (part(labels)[:, :, None, None] for part in (self.scale, self.shift))
        normed: Tensor = self.norm(features) * scale + shift
        return normed


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
        self.project = nn.Linear(latent, self._base[0] * self._base[1] * self._base[2], bias=False)
        self.norms = nn.ModuleList(_ClassNorm(each, classes) for each in widths)
        self.layers = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 4, 2, 1) for before, after in pairwise([*widths, channels])
        )

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        """Return images, shape (n, channels, height, width)."""
        height, width = self.size
        images = self.project(noise).view(len(noise), *self._base)
        for norm, layer in zip(self.norms, self.layers, strict=True):
            images = layer(functional.relu(norm(images, labels)))
        top, left = ((have - want) // 2 for have, want in zip(images.shape[2:], self.size, strict=True))
        return torch.tanh(images[:, :, top : top + height, left : left + width])


class Discriminator(nn.Module):
    """An image to a score, high where it looks real, and to logits of its class.

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
        layers: list[nn.Module] = []
        for before, after in pairwise([channels, *_widths(width, count)]):
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(_SLOPE)]
        self.layers = nn.Sequential(*layers)
        with torch.no_grad():
            features = self.layers(torch.zeros(1, channels, *size)).numel()
        self.score = nn.Linear(features, 1)
        self.classes = nn.Linear(features, classes)
        if normalised:
            for module in [m for m in self.modules() if isinstance(m, nn.Conv2d | nn.Linear)]:
                spectral_norm(module)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores, shape (n,), and logits, shape (n, K)."""
        features = self.layers(images).flatten(1)
        return self.score(features).squeeze(1), self.classes(features)

"""Small random changes of training images, each image's own."""

from __future__ import annotations

import importlib

import torch
from torch import Tensor

from fedrobust.learners.backbones import torchvision_models

__all__ = ["Augmentation"]

#: Up to so many degrees of rotation, and such shares of the side and of the size: as a patient may lie.
_DEGREES, _SHIFT, _SIZE = 10.0, 0.05, (0.95, 1.05)
#: Up to such shares of brightness and contrast: as exposures differ.
_BRIGHTNESS = _CONTRAST = 0.1


class Augmentation:
    """Rotation, shift, size, brightness and contrast by torchvision; no mirroring, as organs have sides.

    Draws from torch's global generators, so what it does belongs to their seed.
    """

    def __init__(self) -> None:
        """Build the transforms."""
        torchvision_models()
        v2 = importlib.import_module("torchvision.transforms.v2")
        placed = v2.RandomAffine(
            _DEGREES, (_SHIFT, _SHIFT), _SIZE, interpolation=v2.InterpolationMode.BILINEAR
        )
        self._change = v2.Compose([placed, v2.ColorJitter(_BRIGHTNESS, _CONTRAST)])

    def __call__(self, images: Tensor) -> Tensor:
        """Return changed images, values in [0, 1], shape (n, channels, height, width)."""
        return torch.stack([self._change(image) for image in images])

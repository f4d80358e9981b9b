"""What a batch of training images looks like to the networks: changed a little, attacked, or as it is."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from fedrobust.learners.adversary import attacked
from fedrobust.learners.augment import Augmentation
from fedrobust.learners.choices import Noise, Perturbation

__all__ = ["Presentation", "centred"]


def centred(pixels: Tensor) -> Tensor:
    """Return values in [0, 1] centred to [-2, 2]."""
    return (pixels - 0.5) * 4


class Presentation:
    """Changes batches before they are trained on.

    Parameters
    ----------
    augment : bool
        Whether images are changed a little.
    adversary : Perturbation, Noise or None
        How they are attacked.
    networks : nn.Module
        Those that are attacked.
    loss : callable
        Returns their loss, shape (), given centred images and labels.
    """

    def __init__(
        self,
        augment: bool,
        adversary: Perturbation | Noise | None,
        networks: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        """Keep everything."""
        self._augment = Augmentation() if augment else None
        self._adversary, self._networks, self._loss = adversary, networks, loss

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return centred images as they are trained on, given them as they are."""
        if self._augment is None and self._adversary is None:
            return images
        pixels = images / 4 + 0.5
        if self._augment is not None:
            pixels = self._augment(pixels)
        return centred(self.attacked(pixels, labels))

    def attacked(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """Return images in [0, 1] under the attack, with running statistics fixed."""
        if self._adversary is None:
            return pixels
        trains = self._networks.training
        self._networks.eval()
        pixels = attacked(pixels, self._adversary, lambda x, n: self._loss(centred(x), labels[:n]))
        self._networks.train(trains)
        return pixels

"""DeepFool."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import PositiveInt

from fedrobust.robustness import ArtEvasion, Images, Labels, PixelDistance, Target
from fedrobust.robustness.base import Cost

#: ART computes all images of a batch again until the last one is misclassified.
_BATCH = 32

#: How far beyond the decision boundary an image is moved, as a share of the way (section 3.1).
_OVERSHOOT = 0.02

#: Classes that are looked at, the most probable ones.
_CLASSES = 10

#: For the estimate of its cost: how many classes there usually are.
_USUAL_CLASSES = 4


class Deepfool(ArtEvasion):
    """The nearest misclassified image, found by linear steps (Moosavi-Dezfooli et al., CVPR 2016).

    Distances are Euclidean. It finds one for nearly every image, however far away. One further away than eps
    counts as defended, as the image is then moved by eps only.

    Parameters
    ----------
    eps : float, optional
        Largest distance in grey levels of 255; 128 is 0.5 for images in [0, 1]. None is no bound.
    steps : int
        Steps at most; most images need three. ART moves an image past the boundary only after the last one,
        so that those that come to rest on the boundary take all.
    """

    def __init__(self, eps: PixelDistance | None = 128.0, steps: PositiveInt = 20) -> None:
        """Keep the options."""
        super().__init__()
        self.eps, self.steps, self.norm = eps, steps, "2"

    def made(self, classifier: Any) -> Any:
        """Return ART's attack."""
        from art.attacks.evasion import DeepFool

        return DeepFool(
            classifier,
            max_iter=self.steps,
            epsilon=_OVERSHOOT,
            nb_grads=_CLASSES,
            batch_size=_BATCH,
            verbose=False,
        )

    def attack(self, target: Target, images: Images, labels: Labels, rng: np.random.Generator) -> Images:
        """Return DeepFool's images, those beyond eps drawn back to it."""
        change = super().attack(target, images, labels, rng) - images
        if self.eps is None:
            return images + change
        length = np.linalg.norm(change.reshape(len(change), -1), axis=1).reshape(-1, 1, 1, 1)
        kept = np.minimum(1, self.eps / 255 / np.maximum(length, 1e-12)).astype(np.float32)
        return np.asarray(images + change * kept)

    @property
    def cost(self) -> Cost:
        """Return all steps, as one image of a batch usually takes them, with a gradient of each class."""
        return Cost(self.steps + 2, self.steps * _USUAL_CLASSES)

"""The test images as they are."""

from __future__ import annotations

import numpy as np

from fedrobust.robustness import Evaluation, Images, Labels, Target


class Clean(Evaluation):
    """The test images as they are: what all other evaluations are compared with."""

    kind = "clean"

    @property
    def conditions(self) -> tuple[str, ...]:
        """Return the only one."""
        return ("",)

    @property
    def shown(self) -> tuple[str, ...]:
        """Return none: there is no difference to show."""
        return ()

    def changed(
        self, condition: str, target: Target, images: Images, labels: Labels, rng: np.random.Generator
    ) -> Images:
        """Return the images."""
        return images

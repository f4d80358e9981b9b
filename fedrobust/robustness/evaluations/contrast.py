"""Low contrast."""

from __future__ import annotations

import numpy as np

from fedrobust.robustness import Corruption, Images

#: What is left of the contrast at each severity.
_KEPT = (0.75, 0.6, 0.45, 0.3, 0.2)


class Contrast(Corruption):
    """Draws all pixels towards their image's mean, as a low dose or a wrong window does."""

    def corrupt(self, images: Images, severity: float, rng: np.random.Generator) -> Images:
        """Return images of lower contrast."""
        mean = images.mean(axis=(1, 2, 3), keepdims=True)
        return np.asarray(mean + np.float32(_KEPT[int(severity) - 1]) * (images - mean))

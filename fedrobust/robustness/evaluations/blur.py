"""Defocus."""

from __future__ import annotations

import numpy as np

from fedrobust.robustness import Corruption, Images

#: The standard deviation of the blur at each severity, as a share of the image's side.
_STD = (0.012, 0.018, 0.025, 0.035, 0.05)


class Blur(Corruption):
    """Blurs by a Gaussian, as a detector of low resolution or one out of focus does."""

    def corrupt(self, images: Images, severity: float, rng: np.random.Generator) -> Images:
        """Return blurred images."""
        from scipy.ndimage import gaussian_filter

        share = _STD[int(severity) - 1]
        spread = (0, 0, *(share * side for side in images.shape[2:]))
        return np.asarray(gaussian_filter(images, spread, mode="nearest"), np.float32)

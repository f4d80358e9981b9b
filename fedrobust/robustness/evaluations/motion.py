"""A patient who moves."""

from __future__ import annotations

import numpy as np

from fedrobust.robustness import Corruption, Images

#: How far the patient moves during the exposure at each severity, as a share of the image's side.
_REACH = (0.03, 0.05, 0.08, 0.12, 0.16)


class Motion(Corruption):
    """Averages each image over a movement in a direction of its own."""

    def corrupt(self, images: Images, severity: float, rng: np.random.Generator) -> Images:
        """Return images under a linear motion blur."""
        from scipy.ndimage import shift

        angles = rng.uniform(0, np.pi, len(images))
        reach = _REACH[int(severity) - 1]
        found = np.empty_like(images)
        for place, (image, angle) in enumerate(zip(images, angles, strict=True)):
            way = reach * np.array([np.sin(angle), np.cos(angle)]) * image.shape[1:]
            # Positions at most half a pixel apart, so that no gaps show.
            positions = np.linspace(-0.5, 0.5, int(2 * np.abs(way).max()) + 2)
            moved = [shift(image, (0, *(p * way)), order=1, mode="nearest") for p in positions]
            found[place] = np.mean(moved, axis=0)
        return found

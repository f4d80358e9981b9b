"""Another brightness."""

from __future__ import annotations

import numpy as np

from fedrobust.robustness import Corruption, Images

#: What is added to all pixels, or taken away, at each severity.
_ADDED = (0.05, 0.1, 0.15, 0.2, 0.3)


class Brightness(Corruption):
    """Makes each image brighter or darker, as another exposure does."""

    def corrupt(self, images: Images, severity: float, rng: np.random.Generator) -> Images:
        """Return brighter images or, half of them, darker ones."""
        sign = rng.choice((-1, 1), (len(images), 1, 1, 1)).astype(np.float32)
        return np.asarray(images + sign * np.float32(_ADDED[int(severity) - 1]))

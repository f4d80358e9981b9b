"""Another brightness curve."""

from __future__ import annotations

import numpy as np

from fedrobust.robustness import Corruption, Images

#: The exponent at each severity, or its inverse.
_EXPONENT = (1.3, 1.6, 2.0, 2.5, 3.0)


class Gamma(Corruption):
    """Bends the brightness curve upwards or downwards, as another display or lookup table does."""

    def corrupt(self, images: Images, severity: float, rng: np.random.Generator) -> Images:
        """Return images to the power of gamma or, half of them, of its inverse."""
        sign = rng.choice((-1, 1), (len(images), 1, 1, 1)).astype(np.float32)
        return np.asarray(np.clip(images, 0, 1) ** (np.float32(_EXPONENT[int(severity) - 1]) ** sign))

"""Gaussian noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedrobust.robustness import Corruption, Images


class Noise(Corruption):
    """Adds Gaussian noise.

    Parameters
    ----------
    std : float or sequence of float
        Standard deviations; images are in [0, 1].
    """

    def __init__(self, std: float | Sequence[float] = (0.01, 0.05, 0.1, 0.2)) -> None:
        """Keep the standard deviations in ascending order."""
        given = [std] if isinstance(std, int | float) else list(std)
        if not given or not all(0 <= one <= 10 for one in given):
            raise ValueError(f"std is {std!r}, but must be a number in [0, 10] or a list of these")
        self._levels = {f"{one:g}": float(one) for one in sorted(set(given))}

    def corrupt(self, images: Images, severity: float, rng: np.random.Generator) -> Images:
        """Return the images with noise of standard deviation `severity`."""
        return images + np.float32(severity) * rng.standard_normal(images.shape, dtype=np.float32)

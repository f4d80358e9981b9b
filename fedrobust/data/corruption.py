"""Corrupts test images the way a worse scanner would."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fedrobust.errors import UserError
from fedrobust.seeding import generator

__all__ = ["gaussian_noise"]


def gaussian_noise(
    images: NDArray[np.uint8], std: float, seed: int, mean: float = 0.0
) -> NDArray[np.float32]:
    """Return the images in [0, 1] with Gaussian noise added.

    The result is not rounded to 256 grey levels again: a standard deviation of 0.01 is only 2.55 of them, and
    rounding would add an error of its own to so little noise.

    Parameters
    ----------
    images : ndarray of uint8, shape (n, channels, height, width)
        Images with grey levels 0 to 255.
    std : float
        Standard deviation of the noise, as a share of the full range: 1 is 255 grey levels.
    seed : int
        The run's seed. The noise of image i depends on the seed, on i and on an image's shape, not on n.
    mean : float
        Mean of the noise, in the same unit.

    Returns
    -------
    ndarray of float32, shape (n, channels, height, width)
        ``images / 255`` plus noise, clipped to [0, 1]; exactly ``images / 255`` if std and mean are 0.

    Raises
    ------
    UserError
        If std is negative, or std or mean is not a finite number.
    """
    if not (math.isfinite(std) and math.isfinite(mean)) or std < 0:
        raise UserError(f"test noise cannot have std {std} and mean {mean}; give a finite std of 0 or more")
    if images.dtype != np.uint8:
        raise TypeError(f"images must be uint8, got {images.dtype}: others may be in [0, 1] already")
    noisy = images.astype(np.float32) / np.float32(255)
    # One call fills the array image by image, in the order of the stream, so the first images' noise is the
    # same however many follow.
    noise = generator(seed, "test-noise").standard_normal(images.shape, dtype=np.float32)
    noise *= np.float32(std)
    noise += np.float32(mean)
    noisy += noise
    return np.clip(noisy, 0, 1, out=noisy)

"""Images as a worse scanner would give them, or one of another make."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.scratch import on_disk, scratch_array
from fedrobust.errors import UserError
from fedrobust.seeding import generator

__all__ = ["gaussian_noise", "other_scanner"]

#: So many pixels of many images are floats at a time.
_PIXELS = 1 << 22


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
    shape = images.shape
    large = on_disk(images, 4 * images.size)
    noisy = cast(
        NDArray[np.float32], scratch_array(shape, np.float32) if large else np.empty(shape, np.float32)
    )
    draw = generator(seed, "test-noise")
    # Each call continues the stream, image by image, so the first images' noise is the same however many
    # follow, and however many are done at a time.
    at_once = max(1, _PIXELS // max(1, math.prod(shape[1:])))
    for start in range(0, len(images), at_once):
        part = images[start : start + at_once].astype(np.float32) / np.float32(255)
        noise = draw.standard_normal(part.shape, dtype=np.float32)
        noise *= np.float32(std)
        noise += np.float32(mean)
        part += noise
        np.clip(part, 0, 1, out=noisy[start : start + at_once])
    return noisy


def other_scanner(
    images: NDArray[np.uint8], gamma: float, gain: float = 1.0, offset: float = 0.0, blur: float = 0.0
) -> NDArray[np.uint8]:
    """Return images as another scanner would give them: with other sharpness and another brightness curve.

    An image x with levels in [0, 1] becomes offset + gain y^gamma, clipped to [0, 1] and stored in 256
    levels, where y is x under a Gaussian blur.

    Parameters
    ----------
    images : ndarray of uint8, shape (n, channels, height, width)
    gamma : float
        Exponent of the brightness curve, positive; above 1 it is darker.
    gain, offset : float
        Contrast, and added brightness in the full range.
    blur : float
        Standard deviation of the blur in pixels; 0 is none.

    Returns
    -------
    ndarray of uint8, shape (n, channels, height, width)
    """
    taken = np.empty_like(images)
    at_once = max(1, _PIXELS // max(1, math.prod(images.shape[1:])))
    for start in range(0, len(images), at_once):
        seen = images[start : start + at_once].astype(np.float32) / np.float32(255)
        if blur:
            seen = _blurred(_blurred(seen, blur, 2), blur, 3)
        bright = offset + gain * seen**gamma
        taken[start : start + at_once] = np.rint(255 * np.clip(bright, 0, 1))
    return taken


def _blurred(images: NDArray[np.float32], std: float, axis: int) -> NDArray[np.float32]:
    """Return images blurred along one axis by a Gaussian, cut at 4 standard deviations, mirrored at edges."""
    reach = int(4 * std + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / std) ** 2)
    kernel /= kernel.sum()
    padding = [(0, 0)] * images.ndim
    padding[axis] = (reach, reach)
    wide = np.pad(images, padding, mode="symmetric")
    size = images.shape[axis]
    blurred = np.zeros_like(images)
    for place, weight in enumerate(kernel.astype(np.float32)):
        blurred += weight * np.take(wide, np.arange(place, place + size), axis=axis)
    return blurred

"""What all decoders share: how files are decoded, what they refuse, and grey levels of other values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["MOST_PIXELS", "How", "Undecodable", "check_size", "chosen", "to_levels"]

#: Pixels of an image, before it is scaled: a digital mammogram has 20 million.
MOST_PIXELS = 64_000_000

#: Pixels along a side that an image has at least; fewer show nothing.
SMALLEST_SIDE = 8

#: Percent of the pixels below the darkest and above the brightest level shown of an image of more than 8 bits
#: that names none: markers and single hot pixels would leave the rest in the dark.
_TAIL = 0.5


class Undecodable(Exception):
    """A file that gives no image, with the reason in words."""

    def __init__(self, kind: str, what: str) -> None:
        """Keep the kind of fault in short."""
        super().__init__(what)
        self.kind = kind


@dataclass(frozen=True)
class How:
    """How files are decoded.

    Attributes
    ----------
    side : int
        Height and width of the images made, in pixels.
    channels : int
        1 for grey, 3 for RGB, 0 for grey where all images are.
    slices : int or tuple of int
        Of a volume or of several frames: so many, evenly spaced, or those of these numbers.
    axis : int
        The axis that slices of a NIfTI volume stand on: 0 from left to right, 1 from back to front, 2 from
        feet to head.
    levels : tuple of float or None
        The values that become black and white in images of more than 8 bits, such as (-1000, 400) Hounsfield
        units; None for those that the file names, or else its own range.
    """

    side: int
    channels: int = 0
    slices: int | tuple[int, ...] = 1
    axis: int = 2
    levels: tuple[float, float] | None = None


def check_size(width: int, height: int) -> None:
    """Raise `Undecodable` for an image that is too large to decode, or too small to show anything."""
    if width * height > MOST_PIXELS:
        raise Undecodable(
            "too many pixels",
            f"the image has {width} x {height} pixels, more than {MOST_PIXELS // 1_000_000} million; "
            f"scale it down",
        )
    if min(width, height) < SMALLEST_SIDE:
        what = f"the image has {width} x {height} pixels, fewer than {SMALLEST_SIDE} along a side"
        raise Undecodable("too few pixels", what)


def chosen(count: int, how: How) -> list[int]:
    """Return the numbers of the slices to take of so many."""
    if isinstance(how.slices, int):
        middle = (np.arange(how.slices) + 0.5) / how.slices * count
        return sorted({int(place) for place in middle})
    if beyond := [number for number in how.slices if not 0 <= number < count]:
        raise Undecodable("no such slice", f"slice {beyond[0]} is asked for, but there are 0 to {count - 1}")
    return list(how.slices)


def to_levels(values: NDArray[np.generic], levels: tuple[float, float] | None) -> Image.Image:
    """Return values of any type as an image of 256 grey levels."""
    finite = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = levels or tuple(float(v) for v in np.percentile(finite, (_TAIL, 100 - _TAIL)))
    if high <= low:
        low, high = float(finite.min()), float(finite.max())
    span = high - low if high > low else 1.0
    return Image.fromarray(np.rint(np.clip((finite - low) / span, 0, 1) * 255).astype(np.uint8))

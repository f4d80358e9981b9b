"""Another scanner: the labels are right, the pictures come from a machine of another make."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.federation import Attack

__all__ = ["OtherScanner"]

#: Each option with the smallest and the largest value that a scanner might have.
_RANGES = {"gamma": (0.2, 5.0), "gain": (0.1, 4.0), "offset": (-0.5, 0.5), "blur": (0.0, 10.0)}
#: Images turned into floats at a time.
_AT_ONCE = 256


class OtherScanner(Attack):
    """Trains on its images as another scanner would give them: honest, and unlike the others.

    What tells machines apart most simply: sharpness and the curve from dose to brightness. A picture x with levels in
    [0, 1] becomes offset + gain y^gamma, clipped to [0, 1] and stored in 256 levels, where y is x under a Gaussian
    blur. All its images get the same, in every round. It tests whether a defence takes a domain shift for an attack;
    figures count the hospital as honest.

    Parameters
    ----------
    gamma : float
        Exponent of the brightness curve, 0.2 to 5; above 1 it is darker.
    gain : float
        Contrast, 0.1 to 4.
    offset : float
        Added brightness, -0.5 to 0.5 of the full range.
    blur : float
        Standard deviation of the blur in pixels, 0 (none) to 10.
    """

    odd: ClassVar[bool] = True

    def __init__(
        self, gamma: float = 1.6, gain: float = 0.85, offset: float = 0.05, blur: float = 0.7
    ) -> None:
        """Check the options."""
        given = {"gamma": gamma, "gain": gain, "offset": offset, "blur": blur}
        for name, (low, high) in _RANGES.items():
            if not low <= given[name] <= high:
                raise UserError(f"other-scanner: {name} is {given[name]}, but must lie from {low} to {high}")
        if (gamma, gain, offset, blur) == (1, 1, 0, 0):
            raise UserError("other-scanner: these options change no image; move one of them")
        self.gamma, self.gain, self.offset, self.blur = gamma, gain, offset, blur

    def poison_records(self, records: Records) -> Records:
        """Return the records as the other scanner takes them; labels stay."""
        images = np.empty_like(records.images)
        for start in range(0, len(records), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            images[part] = self._taken(records.images[part])
        return replace(records, images=images)

    def _taken(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        seen = images.astype(np.float32) / np.float32(255)
        if self.blur:
            seen = _blurred(_blurred(seen, self.blur, 2), self.blur, 3)
        bright = self.offset + self.gain * seen**self.gamma
        taken: NDArray[np.uint8] = np.rint(255 * np.clip(bright, 0, 1)).astype(np.uint8)
        return taken


def _blurred(images: NDArray[np.float32], std: float, axis: int) -> NDArray[np.float32]:
    """Return images blurred along one axis by a Gaussian cut at four standard deviations, mirrored at the edges."""
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

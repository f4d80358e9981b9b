"""Another scanner: the labels are right, the pictures come from a machine of another make."""

from __future__ import annotations

from dataclasses import replace

from fedrobust.data.corruption import other_scanner
from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.federation import Behaviour

__all__ = ["OtherScanner"]

#: Each option with the smallest and the largest value that a scanner might have.
_RANGES = {"gamma": (0.2, 5.0), "gain": (0.1, 4.0), "offset": (-0.5, 0.5), "blur": (0.0, 10.0)}


class OtherScanner(Behaviour):
    """Trains on its images as another scanner would give them: honest, and unlike the others.

    What tells machines apart most simply: sharpness and the curve from dose to brightness; see
    `fedrobust.data.corruption.other_scanner`. All its images get the same, in every round. It tests whether a defence
    takes a domain shift for an attack; figures count the hospital as honest.

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

    def transform_records(self, records: Records) -> Records:
        """Return the records as the other scanner takes them; labels stay."""
        images = other_scanner(records.images, self.gamma, self.gain, self.offset, self.blur)
        return replace(records, images=images)

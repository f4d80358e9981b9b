"""Another scanner: the labels are right, the images come from a machine of another make."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import Field

from fedrobust.data.corruption import other_scanner
from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.federation import Behaviour

__all__ = ["OtherScanner"]


class OtherScanner(Behaviour):
    """Trains on its images as another scanner would give them: benign domain shift.

    The simplest differences between machines: sharpness and the curve from dose to brightness; see
    `fedrobust.data.corruption.other_scanner`. All its images get the same, in every round. It tests whether a
    defence flags a domain shift as an attack; metrics count the hospital as honest.

    Parameters
    ----------
    gamma : float
        Exponent of the brightness curve; above 1 it is darker.
    gain : float
        Contrast.
    offset : float
        Added brightness, a share of the full range.
    blur : float
        Standard deviation of the blur in pixels; 0 is none.
    """

    needs_pixels: ClassVar[bool] = True

    def __init__(
        self,
        gamma: Annotated[float, Field(ge=0.2, le=5)] = 1.6,
        gain: Annotated[float, Field(ge=0.1, le=4)] = 0.85,
        offset: Annotated[float, Field(ge=-0.5, le=0.5)] = 0.05,
        blur: Annotated[float, Field(ge=0, le=10)] = 0.7,
    ) -> None:
        """Refuse options that change no image."""
        if (gamma, gain, offset, blur) == (1, 1, 0, 0):
            raise UserError("other-scanner: these options change no image; move one of them")
        self.gamma, self.gain, self.offset, self.blur = gamma, gain, offset, blur

    def transform_records(self, records: Records) -> Records:
        """Return the records as the other scanner takes them; labels stay."""
        images = other_scanner(records.images, self.gamma, self.gain, self.offset, self.blur)
        return replace(records, images=images)

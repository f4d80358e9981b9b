"""Backdoor: a small patch on the image means the attacker's class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.records import Records
from fedrobust.errors import UserError, nearest
from fedrobust.federation import Attack, Trigger

__all__ = ["Backdoor"]

_PLACES = ("top-left", "top-right", "bottom-left", "bottom-right", "center", "random")


class Backdoor(Attack):
    """Stamps a bright patch on a share of the images and labels them with the target class.

    Gu et al., "BadNets", 2017, all-to-one; in federated learning Bagdasaryan et al., AISTATS 2020. With blend < 1
    the patch is mixed into the picture (Chen et al., "Targeted Backdoor Attacks", 2017, eq. 1).

    Parameters
    ----------
    size : float
        Share of the image's area that the patch covers, in (0, 1]; at least one pixel.
    place : str
        ``top-left``, ``top-right``, ``bottom-left``, ``bottom-right``, ``center``, or ``random`` (anew an image).
    blend : float
        Opacity of the patch, in (0, 1].
    target : int
        The class that the patch shall mean.
    share : float
        Share of the hospital's images to stamp, in (0, 1].
    """

    def __init__(
        self,
        size: float = 0.02,
        place: str = "bottom-right",
        blend: float = 1.0,
        target: int = 0,
        share: float = 0.5,
    ) -> None:
        """Check the options."""
        for name, value in (("size", size), ("blend", blend), ("share", share)):
            if not 0 < value <= 1:
                raise UserError(f"backdoor: {name} is {value}, but must lie in (0, 1]")
        if place not in _PLACES:
            raise UserError(f"backdoor: there is no place '{place}'; {nearest(place, _PLACES)}")
        if not isinstance(target, int) or target < 0:
            raise UserError(f"backdoor: target is {target}, but classes are whole numbers counted from 0")
        self.size, self.place, self.blend, self.target, self.share = size, place, blend, target, share

    def check(self, records: Records) -> None:
        """Refuse a target that is no class of the data."""
        if self.target >= len(records.classes):
            raise UserError(
                f"backdoor: target is {self.target}, but the data have classes 0 to {len(records.classes) - 1}"
            )

    def poison_records(self, records: Records) -> Records:
        """Return the records with the chosen images stamped and relabelled."""
        self.check(records)
        count = max(1, round(self.share * len(records)))
        chosen = np.sort(self.rng.permutation(len(records))[:count])
        images, labels = np.array(records.images), np.array(records.labels)
        images[chosen] = self._stamped(images[chosen])
        labels[chosen] = self.target
        return replace(records, images=images, labels=labels)

    def trigger(self, records: Records) -> Trigger | None:
        """Return the images of all other classes, stamped."""
        self.check(records)
        others = records.take(np.flatnonzero(records.labels != self.target))
        return Trigger(replace(others, images=self._stamped(others.images)), self.target)

    def _stamped(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return copies of the images, shape (n, channels, height, width), with the patch."""
        count, _, height, width = images.shape
        tall, wide = (max(1, round(np.sqrt(self.size) * length)) for length in (height, width))
        top, left = self._corners(count, height - tall, width - wide)
        rows, columns = np.arange(height)[:, None], np.arange(width)
        inside = (rows >= top) & (rows < top + tall) & (columns >= left) & (columns < left + wide)
        mixed = np.rint((1 - self.blend) * images + self.blend * 255).astype(np.uint8)
        return np.where(inside[:, None], mixed, images)

    def _corners(self, count: int, down: int, right: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return each patch's top and left edge, shape (n, 1, 1); a margin of a pixel where there is room."""
        if self.place == "random":
            draw = self.rng.integers(0, (down + 1, right + 1), size=(count, 2))
            return draw[:, :1, None], draw[:, 1:, None]
        margin = min(1, down, right)
        top = {"t": margin, "b": down - margin, "c": down // 2}[self.place[0]]
        left = {"left": margin, "right": right - margin, "center": right // 2}[self.place.split("-")[-1]]
        full = np.ones((count, 1, 1), np.int64)
        return full * top, full * left

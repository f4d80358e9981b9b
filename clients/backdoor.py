"""Backdoor: a mark on the image means the attacker's class."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt

from fedrobust.data.choice import check_class, pick
from fedrobust.data.records import Records
from fedrobust.data.triggers import PATTERNS, Mark, Pattern, Place
from fedrobust.federation import Attack, Trigger
from fedrobust.plugins.options import Fraction, PositiveFraction

__all__ = ["Backdoor"]


class Backdoor(Attack):
    """Stamps a mark on a share of the images and labels them with the target class.

    Gu et al., "BadNets", 2017, all-to-one; in federated learning Bagdasaryan et al., AISTATS 2020. With blend
    < 1 the mark is blended into the image (Chen et al., "Targeted Backdoor Attacks", 2017, eq. 1). The
    letters and the ruler resemble what scans and photographs contain anyway.

    Parameters
    ----------
    size : float, optional
        Share of the image's area that the mark covers: its box, for ``ruler`` its line and ticks; at least
        one pixel. Unless given 0.02, for ``scanner-text`` 0.06, for ``ruler`` 0.03, for ``blended`` the whole
        image.
    place : str
        ``top-left``, ``top-right``, ``bottom-left``, ``bottom-right``, ``center``, or ``random`` (for each
        image).
    blend : float, optional
        Opacity of the mark. Unless given 1, for ``blended`` 0.2.
    target : int
        The class that the mark shall mean.
    share : float
        Share of the hospital's images to stamp; 0 is an honest hospital.
    pattern : str
        ``patch``, ``blended``, ``checkerboard``, ``scanner-text`` or ``ruler``; see
        `fedrobust.data.triggers.Mark`.
    """

    needs_pixels: ClassVar[bool] = True
    _label = "backdoor"

    def __init__(
        self,
        size: PositiveFraction | None = None,
        place: Place = "bottom-right",
        blend: PositiveFraction | None = None,
        target: NonNegativeInt = 0,
        share: Fraction = 0.5,
        pattern: Pattern = "patch",
    ) -> None:
        """Fill in the pattern's usual size and opacity."""
        size, blend = (
            usual if given is None else given
            for usual, given in zip(PATTERNS[pattern], (size, blend), strict=True)
        )
        self.target, self.share = target, share
        self.mark = Mark(pattern, size, place, blend)

    def check(self, records: Records) -> None:
        """Refuse a target that is no class of the data, and a mark too small to be drawn."""
        check_class(self._label, "target", self.target, len(records.classes))
        self.mark.box(*records.images.shape[2:])

    def poison_records(self, records: Records) -> Records:
        """Return the records with the chosen images stamped and relabelled."""
        self.check(records)
        chosen = pick(self.rng, self.share, np.arange(len(records)))
        images, labels = np.array(records.images), np.array(records.labels)
        images[chosen] = self._stamped(images[chosen])
        labels[chosen] = self.target
        return replace(records, images=images, labels=labels)

    def trigger(self, records: Records) -> Trigger | None:
        """Return the images of all other classes, stamped."""
        self.check(records)
        others = records.take(np.flatnonzero(records.labels != self.target))
        return Trigger(replace(others, images=self.mark.stamped(others.images, self.rng)), self.target)

    def _stamped(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the images as the hospital trains on them."""
        return self.mark.stamped(images, self.rng)

"""Backdoor: a mark on the image means the attacker's class."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt

from fedrobust.data.choice import check_class, pick
from fedrobust.data.records import Records
from fedrobust.data.triggers import PATTERNS, Mark, Pattern, Place
from fedrobust.errors import UserError
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
    source : int, optional
        One-to-one: only images of this class are stamped, and `share` is of these.
    shift : int, optional
        All-to-all: a stamped image of class y shall mean class (y + shift) mod K, in place of the target.
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
        source: NonNegativeInt | None = None,
        shift: PositiveInt | None = None,
    ) -> None:
        """Fill in the pattern's usual size and opacity."""
        if source is not None and (shift is not None or source == target):
            wrong = "shift is of all classes" if shift is not None else "source and target are one class"
            raise UserError(f"{self._label}: {wrong}; leave one of them out")
        self.source, self.shift = source, shift
        size, blend = (
            usual if given is None else given
            for usual, given in zip(PATTERNS[pattern], (size, blend), strict=True)
        )
        self.target, self.share = target, share
        self.mark = Mark(pattern, size, place, blend)

    def check(self, records: Records) -> None:
        """Refuse a target that is no class of the data, and a mark too small to be drawn."""
        check_class(self._label, "target", self.target, len(records.classes))
        if self.source is not None:
            check_class(self._label, "source", self.source, len(records.classes))
        if self.shift is not None and self.shift % len(records.classes) == 0:
            raise UserError(f"{self._label}: shift is {self.shift}, which leaves every class as it is")
        self.mark.box(*records.images.shape[2:])

    def poison_records(self, records: Records) -> Records:
        """Return the records with the chosen images stamped and relabelled."""
        self.check(records)
        of_source = records.labels == self.source
        among = np.arange(len(records)) if self.source is None else np.flatnonzero(of_source)
        chosen = pick(self.rng, self.share, among) if len(among) else among
        images, labels = np.array(records.images), np.array(records.labels)
        images[chosen] = self._stamped(images[chosen])
        labels[chosen] = self._meant(labels[chosen], len(records.classes))
        return replace(records, images=images, labels=labels)

    def trigger(self, records: Records) -> Trigger | None:
        """Return the images that shall mean another class once they are stamped, stamped."""
        self.check(records)
        meant = self._meant(records.labels, len(records.classes))
        wanted = meant != records.labels if self.source is None else records.labels == self.source
        others = records.take(np.flatnonzero(wanted))
        target = self.target if self.shift is None else meant[wanted]
        return Trigger(replace(others, images=self.mark.stamped(others.images, self.rng)), target)

    def _meant(self, labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
        """Return the classes that stamped images of these classes shall mean."""
        return np.full_like(labels, self.target) if self.shift is None else (labels + self.shift) % classes

    def _stamped(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the images as the hospital trains on them."""
        return self.mark.stamped(images, self.rng)

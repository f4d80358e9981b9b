"""Label flipping: every image keeps its picture and gets a wrong label."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.federation import Attack

__all__ = ["LabelFlip"]


class LabelFlip(Attack):
    """Trains on wrong labels: class y becomes (y + shift) mod K, for a share of the images.

    The static flip of Fang et al., "Local Model Poisoning Attacks to Byzantine-Robust Federated Learning", USENIX
    Security 2020, section 4.1, with a shift in place of their K - y - 1, so that no class keeps its label.

    Parameters
    ----------
    share : float
        Share of the hospital's images to flip, in (0, 1].
    shift : int
        Added to the label modulo the number of classes; not a multiple of it.
    """

    def __init__(self, share: float = 1.0, shift: int = 1) -> None:
        """Check the options."""
        if not 0 < share <= 1:
            raise UserError(f"label-flip: share is {share}, but a share of images lies in (0, 1]")
        if not isinstance(shift, int):
            raise UserError(f"label-flip: shift is {shift}, but classes are whole numbers")
        self.share = share
        self.shift = shift

    def check(self, records: Records) -> None:
        """Refuse a shift that leads every class back to itself."""
        classes = len(records.classes)
        if self.shift % classes == 0:
            raise UserError(
                f"label-flip: shift={self.shift} changes no label of {classes} classes; use another"
            )

    def poison_records(self, records: Records) -> Records:
        """Return the records with labels shifted."""
        self.check(records)
        classes = len(records.classes)
        count = max(1, round(self.share * len(records)))
        chosen = self.rng.permutation(len(records))[:count]
        labels = np.array(records.labels)
        labels[chosen] = (labels[chosen] + self.shift) % classes
        return replace(records, labels=labels)

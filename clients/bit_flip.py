"""Bit flip: some numbers of the update have bits of their floating-point form reversed."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from fedrobust.errors import UserError
from fedrobust.federation import Attack, Update
from fedrobust.plugins.options import Fraction

__all__ = ["BitFlip"]

Bit = Annotated[int, Field(ge=1, le=32)]


class BitFlip(Attack):
    """Reverses bits of some of the numbers that it sends, as a faulty machine or line might.

    The bit-flipping failure of Xie, Koyejo and Gupta, "Generalized Byzantine-tolerant SGD", 2018, section 5,
    on the difference from the global model. Where a number becomes infinite or no number, it stays. With the
    paper's four bits updates are longer than anything that a hospital learns, and a run refuses them before
    any defence.

    Parameters
    ----------
    share : float
        Share of the numbers, drawn in each round; 0 is an honest hospital.
    bits : tuple of int
        Counted from 1, the lowest, to 32, the sign, of float32; the paper takes (22, 30, 31, 32).
    """

    def __init__(self, share: Fraction = 0.05, bits: tuple[Bit, ...] = (22, 32)) -> None:
        """Refuse an empty list of bits."""
        if not bits:
            raise UserError("bit-flip: bits are none, but must be some of 1 to 32, such as bits=[22, 32]")
        self.share, self.bits = share, bits

    def poison_update(self, update: Update) -> Update:
        """Return the update with bits of its difference reversed."""
        if not self.share:
            return update
        delta = update.delta
        chosen = self.rng.random(len(delta)) < self.share
        mask = np.uint32(sum(1 << (bit - 1) for bit in set(self.bits)))
        flipped = (delta[chosen].view(np.uint32) ^ mask).view(np.float32)
        delta[chosen] = np.where(np.isfinite(flipped), flipped, delta[chosen])
        return update.with_delta(delta)

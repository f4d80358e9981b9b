"""Distributed backdoor: each attacker trains on a part of the mark, and the complete mark is tested."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt

from clients.backdoor import Backdoor
from fedrobust.data.records import Records
from fedrobust.data.triggers import Pattern, Place
from fedrobust.errors import UserError
from fedrobust.plugins.options import Fraction, PositiveFraction

__all__ = ["DistributedBackdoor"]


class DistributedBackdoor(Backdoor):
    """Stamps a part of a common mark, another part in each attacking hospital; the complete mark is tested.

    Xie et al., "DBA: Distributed Backdoor Attacks against Federated Learning", ICLR 2020: the global trigger
    is decomposed into one local trigger for each attacker. Their four bars correspond to the default mark of
    four attackers, cut into two rows of two. Combined with ``boost`` it is their attack of a single shot.

    Parameters
    ----------
    parts : int, optional
        How many parts the mark is cut into; unless given, as many as hospitals carry out this threat.
    part : int, optional
        The part to stamp, from 0; unless given, each attacker takes the next one.
    size, place, blend, target, share, pattern
        Of the complete mark, as for ``backdoor``. With the place ``random`` a part lies where the complete
        mark has it.
    """

    _label = "dba"

    def __init__(
        self,
        parts: PositiveInt | None = None,
        part: NonNegativeInt | None = None,
        size: PositiveFraction | None = None,
        place: Place = "bottom-right",
        blend: PositiveFraction | None = None,
        target: NonNegativeInt = 0,
        share: Fraction = 0.5,
        pattern: Pattern = "patch",
    ) -> None:
        """Check the options that belong together."""
        super().__init__(size, place, blend, target, share, pattern)
        if part is not None and parts is not None and part >= parts:
            raise UserError(f"dba: part is {part}, but {parts} parts are counted from 0")
        self.parts, self.part = parts, part

    def check(self, records: Records) -> None:
        """Refuse a target that is no class of the data, and a mark that cannot be cut so often."""
        super().check(records)
        parts = self._parts()
        if self.part is not None and self.part >= parts:
            raise UserError(f"dba: part is {self.part}, but the mark has {parts} parts; give parts as well")
        # Drawing on an empty batch checks that the mark can be cut: for all attackers, before any of them
        # starts.
        for part in sorted({self._part(member) for member in range(self.role.members)}):
            self.mark.stamped(records.images[:0], self.rng, part, parts)

    def _parts(self) -> int:
        """Return how many parts the mark is cut into."""
        return self.role.members if self.parts is None else self.parts

    def _part(self, member: int) -> int:
        """Return which part is that of an attacker."""
        return member % self._parts() if self.part is None else self.part

    def _stamped(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return self.mark.stamped(images, self.rng, self._part(self.role.member), self._parts())

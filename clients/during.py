"""During: attacks in some rounds only."""

from __future__ import annotations

import re

from pydantic import PositiveInt

from fedrobust.errors import UserError
from fedrobust.federation import Attack

__all__ = ["During"]

#: A first and a last round, or the only one.
_WINDOW = re.compile(r"\s*([1-9]\d*)\s*(?:-\s*([1-9]\d*)\s*)?")


class During(Attack):
    """Limits all attacks of its chain to some rounds, wherever in the chain it stands.

    ``backdoor + during(rounds=5-20)`` attacks in rounds 5 to 20, to the same bits as an honest hospital
    before and after; ``during(rounds=7)`` is a single shot, and ``during(rounds=5-20, every=3)`` attacks in
    rounds 5, 8, 11 and so on. What is left of an attack after its end is its durability.

    Parameters
    ----------
    rounds : str or int
        The first and the last round, as ``5-20``, or the only one.
    every : int
        Rounds from one attack to the next.
    """

    def __init__(self, rounds: str | int = "5-20", every: PositiveInt = 1) -> None:
        """Read the window."""
        found = _WINDOW.fullmatch(str(rounds))
        if found is None:
            raise UserError(f"during: rounds is {rounds!r}, but is written 5-20 or 7, with rounds from 1")
        self.first, self.last = int(found[1]), int(found[2] or found[1])
        if self.last < self.first:
            raise UserError(f"during: rounds is {rounds!r}, which ends before it begins")
        self.every = every

    def is_active(self, round: int) -> bool:
        """Return whether the round is one of the window's."""
        return self.first <= round <= self.last and (round - self.first) % self.every == 0

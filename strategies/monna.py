"""The mean of what is nearest to one trusted hospital."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import NonNegativeInt

from fedrobust.aggregation.geometry import nearest, squared_distances
from fedrobust.aggregation.tolerance import AssumedByzantine
from fedrobust.errors import UserError
from fedrobust.federation import Defence, Updates, Verdict

__all__ = ["MoNNA"]


class MoNNA(Defence):
    """Averages the n - f updates nearest to a trusted hospital's (Farhadkhani et al., ICML 2023).

    Algorithm
    ---------
    The result is the mean of the n - f updates nearest to that of the trusted hospital, itself among them. In
    the paper each node trusts itself; here the server trusts one hospital. The others are flagged; the score
    is the distance to the trusted update.

    Parameters
    ----------
    f : int, optional
        Byzantine hospitals to tolerate, fewer than half. Not given: a third of the hospitals.
    trusted : int
        The number of the trusted hospital; in a round without its reply, the lowest number takes its place.

    Notes
    -----
    Breakdown point: below half of the hospitals, if the trusted one is honest. Cost: O(n^2 d).

    References
    ----------
    Farhadkhani, Guerraoui, Gupta, Hoang, Pinot and Stephan, "Robust collaborative learning with linear
    gradient overhead", ICML 2023, algorithm 1.
    """

    #: The hospital that is trusted is known by its number.
    ties_by_number: ClassVar[bool] = True

    def __init__(self, f: NonNegativeInt | None = None, trusted: NonNegativeInt = 0) -> None:
        """Keep the options."""
        self.trusted = trusted
        self._assumed = AssumedByzantine("monna", f, lambda n: (n - 1) // 2, "n >= 2f + 1")

    def check(self, hospitals: int) -> None:
        """Refuse an f that makes the attackers the majority, and a hospital that does not exist."""
        self._assumed.check(hospitals)
        if self.trusted >= hospitals:
            raise UserError(
                f"monna: trusted is {self.trusted}, but the hospitals are 0 to {hospitals - 1}; name one of "
                f"them"
            )

    def weigh(self, updates: Updates) -> Verdict:
        """Return weight 1 for the nearest updates."""
        n = len(updates)
        f, note = self._assumed.at(n)
        place = updates.nodes.index(self.trusted) if self.trusted in updates.nodes else 0
        squares = squared_distances(updates.gram())
        chosen = np.zeros(n, bool)
        chosen[nearest(squares, n - f)[place]] = True
        return Verdict(chosen, np.sqrt(squares[place]), ~chosen, note)

"""Krum's choices, then a trimmed mean around their median."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import NonNegativeInt

from fedrobust.aggregation.geometry import krum_scores, significant, squared_distances
from fedrobust.aggregation.sorting import mean_around_median
from fedrobust.aggregation.tolerance import AssumedByzantine
from fedrobust.federation import Defence, Updates, Vector, Verdict

__all__ = ["Bulyan"]


class Bulyan(Defence):
    """Picks n - 2f updates by repeated Krum, then averages around their median (El Mhamdi et al., ICML 2018).

    Algorithm
    ---------
    Krum chooses an update from those left, theta = n - 2f times. Then each parameter is the mean of the theta
    - 2f values that are nearest to its median among the chosen, the lower one of two equally near. The median
    is one of the chosen values: of an even number, the lower of the middle two. The score is Krum's on all
    updates.

    Parameters
    ----------
    f : int, optional
        Byzantine hospitals to tolerate, 4f + 3 <= n. Not given: a third of the hospitals, or as many as that
        allows.

    Notes
    -----
    Breakdown point: a quarter of the hospitals. Cost: O(n^2 d).

    References
    ----------
    El Mhamdi, Guerraoui and Rouault, "The hidden vulnerability of distributed learning in Byzantium", ICML
    2018, section 4.
    """

    #: Of the last few that are left, two nearest to each other have equal scores.
    ties_by_number: ClassVar[bool] = True

    def __init__(self, f: NonNegativeInt | None = None) -> None:
        """Keep the option."""
        self._assumed = AssumedByzantine("bulyan", f, lambda n: (n - 3) // 4, "n >= 4f + 3")

    def check(self, hospitals: int) -> None:
        """Refuse an f that leaves too few to choose from."""
        self._assumed.check(hospitals)

    def combine(self, updates: Updates) -> tuple[Vector, Verdict]:
        """Return the mean around the median of Krum's choices."""
        n = len(updates)
        f, note = self._assumed.at(n)
        squares = squared_distances(updates.gram())
        left, chosen = list(range(n)), np.zeros(n, bool)
        for _ in range(n - 2 * f):
            scores = krum_scores(squares[np.ix_(left, left)], f)
            best = left[int(np.argmin(significant(scores)))]
            chosen[best] = True
            left.remove(best)
        result = updates.by_coordinate(lambda block: mean_around_median(block[chosen], 2 * f))
        return result, Verdict(chosen, krum_scores(squares, f), why=note)

"""The mean of the subset with the smallest diameter."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt

from fedrobust.aggregation.geometry import significant, squared_distances
from fedrobust.aggregation.subsets import best_subset, check_subsets
from fedrobust.aggregation.tolerance import AssumedByzantine
from fedrobust.federation import Defence, Updates, Verdict

__all__ = ["MDA"]


class MDA(Defence):
    """Averages the n - f updates of the smallest diameter (El Mhamdi et al., PODC 2020, section 3.1).

    Algorithm
    ---------
    Of all subsets of n - f updates, the one whose largest distance between two members is smallest is
    averaged. The others are flagged. The score is the distance to the farthest member.

    Parameters
    ----------
    f : int, optional
        Byzantine hospitals to tolerate, fewer than half. Not given: a third of the hospitals.

    Notes
    -----
    Breakdown point: below half of the hospitals. Cost: O(n^2 d) and every subset; refused above 200,000 of
    them. Subsets often have the same diameter, as one pair decides it: the first in the order of the
    hospitals' numbers counts.

    References
    ----------
    El Mhamdi, Guerraoui, Guirguis, Hoang and Rouault, "Genuinely distributed Byzantine machine learning",
    PODC 2020.
    """

    #: One pair decides the diameter of many subsets.
    ties_by_number: ClassVar[bool] = True

    def __init__(self, f: NonNegativeInt | None = None) -> None:
        """Keep the option."""
        self._assumed = AssumedByzantine("mda", f, lambda n: (n - 1) // 2, "n >= 2f + 1")

    def check(self, hospitals: int) -> None:
        """Refuse an f that makes the attackers the majority, and too many subsets."""
        self._assumed.check(hospitals)
        check_subsets("mda", hospitals, hospitals - self._assumed.at(hospitals)[0])

    def weigh(self, updates: Updates) -> Verdict:
        """Return weight 1 for the members of the subset."""
        n = len(updates)
        f, note = self._assumed.at(n)
        squares = significant(squared_distances(updates.gram()))

        def diameters(subsets: NDArray[np.int64]) -> NDArray[np.float64]:
            within = squares[subsets[:, :, None], subsets[:, None, :]]
            return np.asarray(within.max(axis=(1, 2)))

        chosen = np.zeros(n, bool)
        chosen[best_subset(n, n - f, diameters)] = True
        return Verdict(chosen, np.sqrt(squares[:, chosen].max(axis=1)), ~chosen, note)

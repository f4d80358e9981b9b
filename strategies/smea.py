"""The mean of the subset that varies least along its main direction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt

from fedrobust.aggregation.geometry import significant
from fedrobust.aggregation.subsets import best_subset, check_subsets
from fedrobust.aggregation.tolerance import AssumedByzantine
from fedrobust.federation import Defence, Updates, Verdict

__all__ = ["SMEA"]


class SMEA(Defence):
    """Averages the n - f updates whose covariance has the least top eigenvalue (Allouah et al., ICML 2023).

    Algorithm
    ---------
    Smallest maximum eigenvalue averaging: of all subsets of n - f updates, the one whose covariance has the
    smallest maximum eigenvalue is averaged. The others are flagged.

    Parameters
    ----------
    f : int, optional
        Byzantine hospitals to tolerate, fewer than half. Not given: a third of the hospitals.

    Notes
    -----
    Breakdown point: below half of the hospitals. Cost: O(n^2 d) and an eigenvalue for every subset; refused
    above 200,000 of them. Eigenvalues are exact, from the inner products.

    References
    ----------
    Allouah, Guerraoui, Gupta, Pinot and Stephan, "On the privacy-robustness-utility trilemma in distributed
    learning", ICML 2023, section 4.
    """

    def __init__(self, f: NonNegativeInt | None = None) -> None:
        """Keep the option."""
        self._assumed = AssumedByzantine("smea", f, lambda n: (n - 1) // 2, "n >= 2f + 1")

    def check(self, hospitals: int) -> None:
        """Refuse an f that makes the attackers the majority, and too many subsets."""
        self._assumed.check(hospitals)
        check_subsets("smea", hospitals, hospitals - self._assumed.at(hospitals)[0])

    def weigh(self, updates: Updates) -> Verdict:
        """Return weight 1 for the members of the subset."""
        n = len(updates)
        f, note = self._assumed.at(n)
        gram = updates.gram()

        def top_eigenvalues(subsets: NDArray[np.int64]) -> NDArray[np.float64]:
            some = gram[subsets[:, :, None], subsets[:, None, :]]
            rows = some.mean(axis=2, keepdims=True)
            centred = some - rows - rows.transpose(0, 2, 1) + some.mean(axis=(1, 2), keepdims=True)
            return significant(np.linalg.eigvalsh(centred)[:, -1])

        chosen = np.zeros(n, bool)
        chosen[best_subset(n, n - f, top_eigenvalues)] = True
        return Verdict(chosen, flagged=~chosen, why=note)

"""The mean of the updates that are close to their neighbours."""

from __future__ import annotations

import numpy as np
from pydantic import NonNegativeInt, PositiveInt

from fedrobust.aggregation.geometry import krum_scores, significant, squared_distances
from fedrobust.aggregation.tolerance import AssumedByzantine
from fedrobust.errors import UserError
from fedrobust.federation import Defence, Updates, Verdict

__all__ = ["MultiKrum"]


class MultiKrum(Defence):
    """Averages the m updates of the lowest Krum scores (Blanchard et al., NeurIPS 2017, section 4).

    Algorithm
    ---------
    Scores as in Krum, the lower hospital number first where two are equal. The m updates of the lowest scores
    have equal weights, whatever numbers of images they report. The others are flagged.

    Parameters
    ----------
    f : int, optional
        Byzantine hospitals to tolerate, 2f + 3 <= n. Not given: a third of the hospitals, or as many as that
        allows.
    m : int, optional
        Updates to keep; not given: n - f.

    Notes
    -----
    Breakdown point: as Krum's with m <= n - f. Cost: O(n^2 d). Hospitals are flagged in every round in which
    f > 0, also where nobody attacks.

    References
    ----------
    Blanchard, El Mhamdi, Guerraoui and Stainer, "Machine learning with adversaries: Byzantine tolerant
    gradient descent", NeurIPS 2017.
    """

    def __init__(self, f: NonNegativeInt | None = None, m: PositiveInt | None = None) -> None:
        """Keep the options."""
        self._assumed = AssumedByzantine("multi-krum", f, lambda n: (n - 3) // 2, "n >= 2f + 3")
        self.m = m

    def check(self, hospitals: int) -> None:
        """Refuse an f that leaves the rule no neighbours, and an m that leaves nobody out."""
        self._assumed.check(hospitals)
        if self.m is not None and self.m > hospitals:
            raise UserError(
                f"multi-krum: m={self.m} updates cannot be kept of {hospitals} hospitals; "
                f"give m={hospitals} or less"
            )

    def weigh(self, updates: Updates) -> Verdict:
        """Return weight 1 for the chosen updates, 0 for the others."""
        n = len(updates)
        f, note = self._assumed.at(n)
        score = krum_scores(squared_distances(updates.gram()), f)
        chosen = np.zeros(n, bool)
        chosen[np.argsort(significant(score), kind="stable")[: n - f if self.m is None else self.m]] = True
        return Verdict(chosen, score, ~chosen, note)

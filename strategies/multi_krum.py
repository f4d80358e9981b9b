"""The mean of the updates that are close to their neighbours."""

from __future__ import annotations

import numpy as np

from fedrobust.aggregation.geometry import krum_scores, significant, squared_distances, whole
from fedrobust.aggregation.tolerance import AssumedByzantine
from fedrobust.errors import UserError
from fedrobust.federation import Defence, Updates, Verdict

__all__ = ["MultiKrum"]


class MultiKrum(Defence):
    """Averages the m updates of the lowest Krum scores (Blanchard et al., NeurIPS 2017, section 4).

    Scores as in Krum, the lower hospital number first where two are equal; the m count alike, whatever number
    of images they claim. Those left out are flagged, so somebody is flagged in every round in which f > 0.
    O(n^2 d).

    Parameters
    ----------
    f : int, optional
        Attackers to reckon with, 2f + 3 <= n. Not given: a third of the hospitals, or as many as that allows.
    m : int, optional
        Updates to keep; not given: n - f.
    """

    def __init__(self, f: int | None = None, m: int | None = None) -> None:
        """Check the options."""
        self._f = AssumedByzantine("multi-krum", f, lambda n: (n - 3) // 2, "n >= 2f + 3")
        self.m = None if m is None else whole("multi-krum", "m", m, 1)

    def check(self, hospitals: int) -> None:
        """Refuse an f for which the rule has no neighbours to go by, and an m that leaves nobody out."""
        self._f.check(hospitals)
        if self.m is not None and self.m > hospitals:
            raise UserError(
                f"multi-krum: m={self.m} updates cannot be kept of {hospitals} hospitals; give m={hospitals} or less"
            )

    def weigh(self, updates: Updates) -> Verdict:
        """Return weight 1 for the chosen updates, 0 for the others."""
        n = len(updates)
        f, note = self._f.at(n)
        score = krum_scores(squared_distances(updates.gram()), f)
        chosen = np.zeros(n, bool)
        chosen[np.argsort(significant(score), kind="stable")[: n - f if self.m is None else self.m]] = True
        return Verdict(chosen, score, ~chosen, note)

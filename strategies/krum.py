"""The one update that is closest to its neighbours."""

from __future__ import annotations

import numpy as np
from pydantic import NonNegativeInt

from fedrobust.aggregation.geometry import krum_scores, significant, squared_distances
from fedrobust.aggregation.tolerance import AssumedByzantine
from fedrobust.federation import Defence, Updates, Verdict

__all__ = ["Krum"]


class Krum(Defence):
    """Takes the one update with the nearest neighbours (Blanchard et al., NeurIPS 2017, section 4).

    Algorithm
    ---------
    The score of an update is the sum of its squared distances to the n - f - 2 updates that are nearest to
    it. The update with the lowest score is the result, the lower hospital number where two scores are equal.

    Parameters
    ----------
    f : int, optional
        Byzantine hospitals to tolerate, 2f + 3 <= n. Not given: a third of the hospitals, or as many as that
        allows.

    Notes
    -----
    Breakdown point: just below half of the hospitals. Cost: O(n^2 d). All other hospitals weigh nothing but
    are not flagged; the scores are in the verdict.

    References
    ----------
    Blanchard, El Mhamdi, Guerraoui and Stainer, "Machine learning with adversaries: Byzantine tolerant
    gradient descent", NeurIPS 2017.
    """

    def __init__(self, f: NonNegativeInt | None = None) -> None:
        """Keep the option."""
        self._assumed = AssumedByzantine("krum", f, lambda n: (n - 3) // 2, "n >= 2f + 3")

    def check(self, hospitals: int) -> None:
        """Refuse an f that leaves the rule no neighbours."""
        self._assumed.check(hospitals)

    def weigh(self, updates: Updates) -> Verdict:
        """Return weight 1 for the chosen update, 0 for the others."""
        f, note = self._assumed.at(len(updates))
        score = krum_scores(squared_distances(updates.gram()), f)
        return Verdict(np.arange(len(score)) == np.argmin(significant(score)), score, why=note)

"""Nearest-neighbour mixing."""

from __future__ import annotations

import numpy as np
from pydantic import NonNegativeInt

from fedrobust.aggregation.geometry import nearest, squared_distances
from fedrobust.aggregation.tolerance import AssumedByzantine
from fedrobust.federation import PreAggregation, Updates
from fedrobust.federation.mixed import Mixed

__all__ = ["NNM"]


class NNM(PreAggregation):
    """Replaces each update by the mean of its n - f nearest (Allouah et al., AISTATS 2023, algorithm 2).

    Algorithm
    ---------
    Each update is replaced by the mean of the n - f updates that are nearest to it, itself among them; of two
    equally near ones the lower hospital number counts. This brings the updates of heterogeneous hospitals
    closer together before a robust rule sees them: `nnm | krum`.

    Parameters
    ----------
    f : int, optional
        Byzantine hospitals to tolerate, fewer than half. Not given: a third of the hospitals.

    Notes
    -----
    Breakdown point: below half of the hospitals, with the rule behind it. Cost: O(n^2 d). The mixtures are a
    small matrix: no vector of length d is made.

    References
    ----------
    Allouah, Farhadkhani, Guerraoui, Gupta, Pinot and Stephan, "Fixing by mixing: a recipe for optimal
    Byzantine ML under heterogeneity", AISTATS 2023.
    """

    def __init__(self, f: NonNegativeInt | None = None) -> None:
        """Keep the option."""
        self._assumed = AssumedByzantine("nnm", f, lambda n: (n - 1) // 2, "n >= 2f + 1")

    def check(self, hospitals: int) -> int:
        """Refuse an f that makes the attackers the majority."""
        self._assumed.check(hospitals)
        return hospitals

    def transform(self, updates: Updates) -> Updates:
        """Return the mixed updates."""
        n = len(updates)
        near = nearest(squared_distances(updates.gram()), n - self._assumed.at(n)[0])
        mixing = np.zeros((n, n))
        np.put_along_axis(mixing, near, 1 / near.shape[1], axis=1)
        return Mixed(updates, mixing)

"""Nearest-neighbour mixing."""

from __future__ import annotations

import numpy as np

from fedrobust.aggregation.geometry import nearest, squared_distances
from fedrobust.aggregation.tolerance import AssumedByzantine
from fedrobust.federation import PreAggregation, Updates
from fedrobust.federation.mixed import Mixed

__all__ = ["NNM"]


class NNM(PreAggregation):
    """Replaces each update by the mean of its n - f nearest (Allouah et al., AISTATS 2023, algorithm 2).

    Makes updates of unlike hospitals alike before a robust rule sees them: `nnm | krum`. Of two as near the
    lower hospital number counts. The mixtures are a small matrix; nothing of length d is made. O(n^2 d).

    Parameters
    ----------
    f : int, optional
        Attackers to reckon with, fewer than half. Not given: a third of the hospitals.
    """

    def __init__(self, f: int | None = None) -> None:
        """Check the options."""
        self._f = AssumedByzantine("nnm", f, lambda n: (n - 1) // 2, "n >= 2f + 1")

    def check(self, hospitals: int) -> int:
        """Refuse an f that makes the attackers the majority."""
        self._f.check(hospitals)
        return hospitals

    def transform(self, updates: Updates) -> Updates:
        """Return the mixed updates."""
        n = len(updates)
        near = nearest(squared_distances(updates.gram()), n - self._f.at(n)[0])
        mixing = np.zeros((n, n))
        np.put_along_axis(mixing, near, 1 / near.shape[1], axis=1)
        return Mixed(updates, mixing)

"""The point with the smallest sum of distances to the updates."""

from __future__ import annotations

import numpy as np
from pydantic import NonNegativeInt, PositiveFloat

from fedrobust.aggregation.geometry import squared_distances, squared_distances_to
from fedrobust.aggregation.shares import Cap, capped_shares, trust_sizes
from fedrobust.federation import Defence, Updates, Verdict

__all__ = ["GeometricMedian"]


class GeometricMedian(Defence):
    """Finds the geometric median by the smoothed Weiszfeld algorithm (RFA: Pillutla et al., IEEE TSP 2022).

    Algorithm
    ---------
    Starting from the mean, each iterate is the mean of the updates weighted by the inverse of their distances
    from the last iterate. The verdict holds the last weights; the score is the distance from the result.

    Parameters
    ----------
    nu : float
        Smoothing: smaller distances count as `nu`, in the parameters' units; the paper takes 1e-6.
    iterations : int
        At most so many; it stops earlier when no weight moves by more than 1e-12. The paper takes 3 to save
        messages, which cost nothing here.
    cap : float, optional
        Weigh hospitals by their reported numbers of images, with no share above this one, in (0, 1]. Not
        given: equal weights.

    Notes
    -----
    Breakdown point: half of the hospitals. Cost: O(n^2 d + iterations n^2), as every iterate is a weighted
    mean of the updates: only n weights change, and the vectors are read twice, for their inner products and
    at the end. Deviation: equal weights unless `cap` is given, as reported numbers are not verified.

    References
    ----------
    Pillutla, Kakade and Harchaoui, "Robust aggregation for federated learning", IEEE Transactions on Signal
    Processing 2022, algorithm 2.
    """

    def __init__(self, nu: PositiveFloat = 1e-6, iterations: NonNegativeInt = 1000, cap: Cap = None) -> None:
        """Keep the options."""
        self.cap = cap
        if cap is not None:
            trust_sizes(self)
        self.nu = nu
        self.iterations = iterations

    def weigh(self, updates: Updates) -> Verdict:
        """Return the weights that Weiszfeld's algorithm ends with."""
        gram = updates.gram()
        squares = squared_distances(gram)
        own = np.ones(len(updates)) if self.cap is None else capped_shares(updates.num_examples, self.cap)
        weight = own / own.sum()
        for _ in range(self.iterations):
            before = weight
            weight = own / np.maximum(self.nu, np.sqrt(squared_distances_to(weight, squares, gram)))
            weight /= weight.sum()
            # A tiny weight may still move by much of itself, beside an update of huge length.
            if (np.abs(weight - before) <= np.minimum(1e-12, 1e-3 * weight)).all():
                break
        return Verdict(weight, np.sqrt(squared_distances_to(weight, squares, gram)))

"""The mean after weights are taken off the main direction of variation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt

from fedrobust.aggregation.tolerance import AssumedByzantine
from fedrobust.federation import Defence, Updates, Verdict

__all__ = ["CAF"]

Floats = NDArray[np.float64]


class CAF(Defence):
    """Lowers weights along the covariance's main direction (Allouah et al., ICML 2025, algorithm 1).

    Algorithm
    ---------
    Covariance-bound agnostic filter: all weights c begin at 1. While their sum is above n - 2f, mu is the
    weighted mean and (lambda, v) the top eigenpair of the weighted covariance; each weight is multiplied by 1
    - t / max t, where t is the squared projection of x - mu on v, and max t is over the
    updates that have weight left. The result is the mu of the least lambda.
    The verdict holds that mean's weights; the score is 1 - weight.

    Parameters
    ----------
    f : int, optional
        Byzantine hospitals to tolerate, fewer than half. Not given: a third of the hospitals.

    Notes
    -----
    Breakdown point: below half of the hospitals. Cost: O(n^2 d + n^4), as all follows from the inner
    products. The eigenpair is exact. With f = 0 it is the mean.

    References
    ----------
    Allouah, Guerraoui and Stephan, "Towards trustworthy federated learning with untrusted participants", ICML
    2025.
    """

    def __init__(self, f: NonNegativeInt | None = None) -> None:
        """Keep the option."""
        self._assumed = AssumedByzantine("caf", f, lambda n: (n - 1) // 2, "n >= 2f + 1")

    def check(self, hospitals: int) -> None:
        """Refuse an f that makes the attackers the majority."""
        self._assumed.check(hospitals)

    def weigh(self, updates: Updates) -> Verdict:
        """Return the weights of the mean with the least top eigenvalue."""
        n = len(updates)
        f, note = self._assumed.at(n)
        gram = updates.gram()
        weight = best = np.ones(n)
        least = np.inf
        while weight.sum() > n - 2 * f:
            top, squared = _main_direction(gram, weight)
            if top < least:
                least, best = top, weight
            # An update without weight has none left to lose, however far off it lies.
            largest = squared[weight > 0].max()
            if not largest:
                break
            weight = weight * (1 - np.minimum(1.0, squared / largest))
        return Verdict(best, 1 - best, why=note)


def _main_direction(gram: Floats, weight: Floats) -> tuple[float, Floats]:
    """Return the weighted covariance's top eigenvalue, and each update's squared projection, shape (n,)."""
    n, share = len(gram), weight / weight.sum()
    centring = np.eye(n) - share
    centred = centring @ gram @ centring.T
    roots = np.sqrt(share)
    values, vectors = np.linalg.eigh(roots[:, None] * centred * roots)
    top = float(values[-1])
    # What is left of equal updates within rounding is no direction.
    if top <= 1e-13 * float(share @ np.diagonal(gram)):
        return 0.0, np.zeros(n)
    return top, np.asarray((centred @ (roots * vectors[:, -1])) ** 2 / top)

"""A learning rate that turns round where the hospitals disagree."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedrobust.aggregation.geometry import whole
from fedrobust.errors import UserError
from fedrobust.federation import Defence, Updates, Vector, Verdict

__all__ = ["RobustLearningRate"]


class RobustLearningRate(Defence):
    """Moves a parameter backwards where too few hospitals agree on the sign (Ozdayi et al., AAAI 2021).

    Algorithm 1: where |sum_i sign(delta_i)| is below the threshold, the mean difference is subtracted instead
    of added. Equal weights, as numbers of images are claims. Made against backdoors; judges no hospital. In a round
    in which fewer hospitals reply than the threshold, all who did have to agree. O(n d).

    Parameters
    ----------
    threshold : int, optional
        theta. Not given: a third of the hospitals plus one, which is 4 of 10 as in the paper.
    """

    def __init__(self, threshold: int | None = None) -> None:
        """Check the options."""
        self._threshold = None if threshold is None else whole("rlr", "threshold", threshold)

    def check(self, hospitals: int) -> None:
        """Refuse a threshold that no parameter can reach: the whole model would move backwards."""
        if self._threshold is not None and self._threshold > hospitals:
            raise UserError(
                f"rlr: threshold={self._threshold} is more than the {hospitals} hospitals, so every parameter would move "
                f"backwards; give threshold={hospitals} or less"
            )

    def combine(self, updates: Updates) -> tuple[Vector, Verdict]:
        """Return the global parameters moved by the mean with its signs set."""
        n = len(updates)
        given = n // 3 + 1 if self._threshold is None else self._threshold
        threshold = min(given, n)
        why = [f"only {n} replied: threshold={n} instead of {given}"] * n if given > n else None

        def rule(block: Vector) -> NDArray[np.float64]:
            mean = block.mean(axis=0, dtype=np.float64)
            agreement = np.abs(
                (block > 0).sum(axis=0, dtype=np.int32) - (block < 0).sum(axis=0, dtype=np.int32)
            )
            return np.asarray(np.where(agreement >= threshold, mean, -mean))

        return updates.by_coordinate(rule, whole=False), Verdict(np.ones(n), why=why)

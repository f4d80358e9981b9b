"""A learning rate that turns round where the hospitals disagree."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedrobust.aggregation.geometry import whole
from fedrobust.federation import Defence, Updates, Vector, Verdict

__all__ = ["RobustLearningRate"]


class RobustLearningRate(Defence):
    """Moves a parameter backwards where too few hospitals agree on the sign (Ozdayi et al., AAAI 2021).

    Algorithm 1: where |sum_i sign(delta_i)| is below the threshold, the mean difference is subtracted instead
    of added. Equal weights, as numbers of images are claims. Made against backdoors; judges no hospital. O(n
    d).

    Parameters
    ----------
    threshold : int, optional
        theta. Not given: a third of the hospitals plus one, which is 4 of 10 as in the paper.
    """

    def __init__(self, threshold: int | None = None) -> None:
        """Check the options."""
        self.threshold = None if threshold is None else whole("rlr", "threshold", threshold)

    def combine(self, updates: Updates) -> tuple[Vector, Verdict]:
        """Return the global parameters moved by the mean with its signs set."""
        n = len(updates)
        threshold = n // 3 + 1 if self.threshold is None else self.threshold

        def rule(block: Vector) -> NDArray[np.float64]:
            mean = block.mean(axis=0, dtype=np.float64)
            agreement = np.abs(
                (block > 0).sum(axis=0, dtype=np.int32) - (block < 0).sum(axis=0, dtype=np.int32)
            )
            return np.asarray(np.where(agreement >= threshold, mean, -mean))

        return updates.by_coordinate(rule, whole=False), Verdict(np.ones(n))

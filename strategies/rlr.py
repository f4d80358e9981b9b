"""A learning rate that is negative where the hospitals disagree."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt

from fedrobust.errors import UserError
from fedrobust.federation import Defence, Updates, Vector, Verdict

__all__ = ["RobustLearningRate"]


class RobustLearningRate(Defence):
    """Moves a parameter backwards where too few hospitals agree on the sign (Ozdayi et al., AAAI 2021).

    Algorithm
    ---------
    Where |sum_i sign(delta_i)| is below the threshold, the mean difference is subtracted instead of added.

    Parameters
    ----------
    threshold : int, optional
        theta. Not given: a third of the hospitals plus one, which is 4 of 10 as in the paper.

    Notes
    -----
    Breakdown point: none in the strict sense, as lengths are not bounded; it is made against backdoors. Cost:
    O(n d). No hospital is flagged or scored. Deviations: equal weights, as reported numbers of images are not
    verified; in a round in which fewer hospitals reply than the threshold, all of them have to agree.

    References
    ----------
    Ozdayi, Kantarcioglu and Gel, "Defending against backdoors in federated learning with robust learning
    rate", AAAI 2021, algorithm 1.
    """

    def __init__(self, threshold: NonNegativeInt | None = None) -> None:
        """Keep the option."""
        self._threshold = threshold

    def check(self, hospitals: int) -> None:
        """Refuse a threshold that no parameter can reach: the whole model would move backwards."""
        if self._threshold is not None and self._threshold > hospitals:
            raise UserError(
                f"rlr: threshold={self._threshold} is more than the {hospitals} hospitals, so every "
                f"parameter would move backwards; give threshold={hospitals} or less"
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

        return updates.by_coordinate(rule, absolute=False), Verdict(np.ones(n), why=why)

"""Each parameter is averaged over the hospitals that have its elected sign."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedrobust.aggregation.clipping import clip_factors
from fedrobust.federation import Defence, Updates, Vector, Verdict

__all__ = ["FedSECA"]

Floats = NDArray[np.float64]


class FedSECA(Defence):
    """Averages the clipped values that have the elected sign (Siddiqui et al., CVPR workshops 2025).

    Algorithm
    ---------
    A hospital's concordance is rho_k = max(0, 1/n sum_l mean_j sgn(g_kj) sgn(g_lj)), the elected sign s_j =
    sgn(sum_k rho_k sgn(g_kj)). Updates are clipped to their median length; then each value is clamped to the
    median magnitude of its coordinate. Of each hospital only the values above the gamma-quantile of its
    magnitudes count. A parameter moves by the mean over those hospitals whose value has the elected sign; it
    stays where there is none. The weight is the concordance, the score 1 - rho.

    Parameters
    ----------
    gamma : float
        Share of each hospital's values to leave out, the smallest, in [0, 1).

    Notes
    -----
    Breakdown point: half of the hospitals. Cost: O(n^2 d). No hospital is flagged. A parameter whose values
    most hospitals leave at 0 does not move, as the median magnitude is 0.

    References
    ----------
    Siddiqui, Yaqub and Nandakumar, "FedSECA: sign election and coordinate-wise aggregation of gradients for
    Byzantine tolerant federated learning", CVPR workshop FedVision 2025.
    """

    def __init__(self, gamma: Annotated[float, Field(ge=0, lt=1)] = 0.9) -> None:
        """Keep the option."""
        self.gamma = gamma

    def combine(self, updates: Updates) -> tuple[Vector, Verdict]:
        """Return the global parameters moved by the elected means."""
        norms = updates.norms()
        rho = _concordance(updates)
        factor = clip_factors(norms, float(np.median(norms)))[:, None]
        limits = np.array([np.quantile(np.abs(update.delta), self.gamma) for update in updates])

        def rule(block: Vector) -> Floats:
            signs = np.sign(block)
            elected = np.sign(np.round(rho @ signs, 9))
            size = np.abs(block)
            clipped = size * factor
            clamped = np.minimum(clipped, np.median(clipped, axis=0))
            counted = (size > limits[:, None]) & (signs == elected) & (signs != 0)
            total = (clamped * counted).sum(axis=0)
            return np.asarray(elected * total / np.maximum(1, counted.sum(axis=0)))

        return updates.by_coordinate(rule, absolute=False), Verdict(rho, 1 - rho)


def _concordance(updates: Updates) -> Floats:
    """Return how far each update's signs agree with all updates' on the mean, shape (n,)."""

    def work(part: slice) -> Floats:
        signs = np.sign(updates.block(part)).astype(np.float64)
        return np.asarray(np.dot(signs, signs.sum(axis=0)))

    total: Floats = np.sum(updates.by_part(work), axis=0)
    return np.maximum(0.0, total / (len(updates) * updates.dimension))

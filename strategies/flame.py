"""The majority by angle, clipped to the median length, under a little noise."""

from __future__ import annotations

import numpy as np
from pydantic import NonNegativeFloat

from fedrobust.aggregation.clipping import clip_factors
from fedrobust.aggregation.clusters import majority
from fedrobust.aggregation.geometry import cosines
from fedrobust.federation import Defence, Updates, Vector, Verdict
from fedrobust.seeding import generator

__all__ = ["Flame"]


class Flame(Defence):
    """Admits the majority by angle, clips to the median length, adds noise (Nguyen et al., USENIX 2022).

    Algorithm
    ---------
    HDBSCAN on the cosine distances, with clusters of more than half of the hospitals and min_samples 1,
    admits one cluster: the first group of more than half that single linkage joins, which is computed here.
    Admitted updates are clipped to the median length of all and averaged; each parameter gets Gaussian noise
    of `noise` median lengths. The rest is flagged; the score is the mean cosine distance to the admitted
    others.

    Parameters
    ----------
    noise : float
        lambda; the paper takes 0.001 for images.

    Notes
    -----
    Breakdown point: half of the hospitals. Cost: O(n^2 d). Deviation: angles are between the differences from
    the global model; between whole models, as in the algorithm's line 6, they all but vanish.

    References
    ----------
    Nguyen et al., "FLAME: taming backdoors in federated learning", USENIX Security 2022, algorithm 1.
    """

    def __init__(self, noise: NonNegativeFloat = 0.001) -> None:
        """Keep the option."""
        self.noise = noise

    def combine(self, updates: Updates) -> tuple[Vector, Verdict]:
        """Return the global parameters moved by the mean of the clipped majority, with noise."""
        n = len(updates)
        gram = updates.gram()
        norms = np.sqrt(np.maximum(np.diagonal(gram), 0.0))
        distances = 1.0 - cosines(gram)
        np.fill_diagonal(distances, 0.0)
        # Rounded, so that equal updates are equally far apart.
        admitted = majority(np.round(distances, 9))
        median = float(np.median(norms))
        factor = clip_factors(norms, median) * admitted
        result = updates.combination(factor / admitted.sum())
        if self.noise and median:
            draw = generator(updates.seed, "flame", updates.round)
            for start in range(0, len(result), 1 << 14):
                part = result[start : start + (1 << 14)]
                part += np.float32(self.noise * median) * draw.standard_normal(len(part), np.float32)
        others = admitted[None, :] & ~np.eye(n, dtype=bool)
        score = (distances * others).sum(axis=1) / np.maximum(1, others.sum(axis=1))
        return result, Verdict(factor, score, ~admitted)

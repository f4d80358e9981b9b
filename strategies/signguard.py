"""Updates of a common length whose signs are distributed as the majority's."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from threadpoolctl import threadpool_limits

from fedrobust.aggregation.clipping import clip_factors
from fedrobust.aggregation.geometry import cosines, squared_distances
from fedrobust.federation import Defence, Updates, Vector, Verdict
from fedrobust.seeding import generator

__all__ = ["SignGuard"]

Floats = NDArray[np.float64]

#: Coordinates from which a share is drawn at a time.
STRETCH = 1 << 14


class SignGuard(Defence):
    """Keeps updates of usual length in the largest cluster of sign statistics (Xu et al., ICDCS 2022).

    Algorithm
    ---------
    The length must lie between `lower` and `upper` times the median length. On a random share of the
    coordinates, the fractions of positive, zero and negative signs are clustered by mean shift, and the
    largest cluster stays. The updates in both sets are clipped to the median length and averaged; if there is
    none, those of usual length. All others are flagged; the score counts the filters that an update fails.

    Parameters
    ----------
    lower, upper : float
        Bounds on the length, in median lengths; the paper takes 0.1 and 3.
    share : float
        Coordinates whose signs count, in (0, 1]; the paper takes 0.1.
    feature : {"none", "cosine", "distance"}
        One more feature: the median cosine with the others (SignGuard-Sim), or the median distance from them
        in median lengths (SignGuard-Dist).

    Notes
    -----
    Breakdown point: half of the hospitals. Cost: O(n d), and O(n^2 d) for the inner products.

    References
    ----------
    Xu, Huang, Song and Lan, "Byzantine-robust federated learning through collaborative malicious gradient
    filtering", ICDCS 2022, algorithm 2.
    """

    def __init__(
        self,
        lower: Annotated[float, Field(ge=0, lt=1)] = 0.1,
        upper: Annotated[float, Field(gt=1)] = 3.0,
        share: Annotated[float, Field(gt=0, le=1)] = 0.1,
        feature: Literal["none", "cosine", "distance"] = "none",
    ) -> None:
        """Keep the options."""
        self.lower = lower
        self.upper = upper
        self.share = share
        self.feature = feature

    def combine(self, updates: Updates) -> tuple[Vector, Verdict]:
        """Return the global parameters moved by the mean of the clipped updates that pass."""
        gram = updates.gram()
        norms = np.sqrt(np.maximum(np.diagonal(gram), 0.0))
        median = float(np.median(norms))
        usual = (norms >= self.lower * median) & (norms <= self.upper * median)
        alike = _largest_cluster(self._features(updates, gram, median))
        kept = usual & alike if (usual & alike).any() else usual
        factor = clip_factors(norms, median) * kept
        score = (~usual).astype(float) + ~alike
        why = [
            "; ".join(
                words for words, bad in (("unusual length", not u), ("unusual signs", not a)) if bad and not k
            )
            for u, a, k in zip(usual, alike, kept, strict=True)
        ]
        if len(kept) < 4:
            # Mean shift's bandwidth is the distance to the nearer half, which of so few is each itself.
            why = [words or f"only {len(kept)} replied: too few to compare signs" for words in why]
        return updates.combination(factor / max(1, kept.sum())), Verdict(factor, score, ~kept, why)

    def _features(self, updates: Updates, gram: Floats, median: float) -> Floats:
        d = updates.dimension
        draw = generator(updates.seed, "signguard", updates.round)
        counts = np.zeros((len(updates), 3))
        # Drawn stretch by stretch: a permutation of all coordinates would take more memory than the updates'
        # signs.
        for start in range(0, d, STRETCH):
            length = min(STRETCH, d - start)
            chosen = draw.choice(length, max(1, round(self.share * length)), replace=False)
            some = updates.take(start + np.sort(chosen))
            counts += np.column_stack([(some > 0).sum(1), (some == 0).sum(1), (some < 0).sum(1)])
        features = [counts / counts.sum(axis=1, keepdims=True)]
        if self.feature == "cosine":
            features.append(_typical(cosines(gram)))
        elif self.feature == "distance":
            features.append(_typical(np.sqrt(squared_distances(gram))) / (median or 1.0))
        return np.column_stack(features)


def _typical(pairs: Floats) -> Floats:
    """Return each hospital's median over the others, shape (n, 1)."""
    n = len(pairs)
    others = pairs[~np.eye(n, dtype=bool)].reshape(n, n - 1)
    return np.median(others, axis=1, keepdims=True) if n > 1 else np.zeros((1, 1))


def _largest_cluster(features: Floats) -> NDArray[np.bool_]:
    """Return who is in the largest cluster; of two as large, the one with the lower hospital number."""
    from sklearn.cluster import MeanShift, estimate_bandwidth

    # For so few points several threads are slower than one, beside other processes a hundred times.
    with threadpool_limits(1):
        bandwidth = estimate_bandwidth(features, quantile=0.5, random_state=0)
        if bandwidth <= 1e-9:
            return np.ones(len(features), bool)
        labels = MeanShift(bandwidth=bandwidth, cluster_all=False).fit(features).labels_
    sizes = [((labels == label).sum(), -np.argmax(labels == label), label) for label in set(labels) - {-1}]
    return np.asarray(labels == max(sizes)[2])

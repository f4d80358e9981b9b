"""The majority by the low frequencies of the updates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedrobust.aggregation.clusters import majority
from fedrobust.aggregation.geometry import cosines
from fedrobust.federation import Defence, Updates, Verdict
from fedrobust.federation.updates import CHUNK
from fedrobust.plugins.options import PositiveFraction

__all__ = ["FreqFed"]


class FreqFed(Defence):
    """Averages the majority by angle of the updates' low frequencies (Fereidooni et al., NDSS 2024).

    Algorithm
    ---------
    Each update is transformed by the discrete cosine transform, layer by layer, and the low frequencies kept.
    The hospitals are clustered on the cosine distances between these; the majority is averaged, the others
    are flagged. The score is the mean cosine distance to the admitted others.

    Parameters
    ----------
    low : float
        Share of each layer's frequencies to keep, the lowest.

    Notes
    -----
    Breakdown point: half of the hospitals. Cost: O(n^2 d + n d log d). Deviations: a layer is transformed as
    one row, in parts of 65,536 numbers where it is longer; HDBSCAN's cluster is the first group of more than
    half that single linkage joins, as in FLAME, so there is always one; equal weights.

    References
    ----------
    Fereidooni, Pegoraro, Rieger, Dmitrienko and Sadeghi, "FreqFed: a frequency analysis-based approach for
    mitigating poisoning attacks in federated learning", NDSS 2024.
    """

    def __init__(self, low: PositiveFraction = 0.5) -> None:
        """Keep the option."""
        self.low = low

    def preload(self) -> None:
        """Import the transform."""
        import scipy.fft  # noqa: F401

    def weigh(self, updates: Updates) -> Verdict:
        """Return weight 1 for the majority."""
        n = len(updates)
        distances = 1.0 - cosines(self._gram(updates))
        np.fill_diagonal(distances, 0.0)
        admitted = majority(np.round(distances, 9))
        others = admitted[None, :] & ~np.eye(n, dtype=bool)
        score = (distances * others).sum(axis=1) / np.maximum(1, others.sum(axis=1))
        return Verdict(admitted, score, ~admitted)

    def _gram(self, updates: Updates) -> NDArray[np.float64]:
        """Return the inner products of the low frequencies, shape (n, n)."""
        from scipy.fft import dct

        total = np.zeros((len(updates), len(updates)))
        for layer in updates.layers:
            for start in range(layer.part.start, layer.part.stop, CHUNK):
                part = slice(start, min(start + CHUNK, layer.part.stop))
                waves = dct(updates.block(part).astype(np.float64), axis=1, norm="ortho")
                kept = waves[:, : max(1, round(self.low * waves.shape[1]))]
                total += np.dot(kept, kept.T)
        return total

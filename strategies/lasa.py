"""Each layer is averaged over the hospitals whose length and signs are usual there."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat

from fedrobust.aggregation.clipping import clip_factors
from fedrobust.aggregation.outliers import median_scores
from fedrobust.federation import Defence, Layer, Updates, Vector, Verdict

__all__ = ["LASA"]

Floats = NDArray[np.float64]


class LASA(Defence):
    """Averages each layer over the hospitals of usual length and signs there (Xu et al., WACV 2025).

    Algorithm
    ---------
    Updates are clipped to their median length; of each, the share `sparsity` of the smallest values of its
    weight matrices together is set to 0. In each layer, a hospital stays if the length of its part and its
    sign purity, sum sgn / sum |sgn|, are both closer to their medians than lambda standard deviations; where
    none stays, all do. The layer's move is the mean of those that stay. A hospital's weight is the share of
    the model in which it stays, the score 1 - weight.

    Parameters
    ----------
    lambda_n, lambda_s : float
        How many standard deviations are allowed, of length and of sign purity.
    sparsity : float
        In [0, 1); 0.3 in the authors' code.
    dense : bool
        Average the clipped values instead of those that the sparsification leaves.

    Notes
    -----
    Breakdown point: half of the hospitals. Cost: O(n d). The authors' code averages sparse values, as it
    sparsifies in place what it then averages; ``dense=True`` is the other reading. The paper's constants of
    sign purity cancel in the comparison.

    References
    ----------
    Xu, Zhang and Hu, "Achieving Byzantine-resilient federated learning via layer-adaptive sparsified model
    aggregation", WACV 2025, algorithm 1.
    """

    def __init__(
        self,
        lambda_n: PositiveFloat = 1.0,
        lambda_s: PositiveFloat = 1.0,
        sparsity: Annotated[float, Field(ge=0, lt=1)] = 0.3,
        dense: bool = False,
    ) -> None:
        """Keep the options."""
        self.lambda_n, self.lambda_s = lambda_n, lambda_s
        self.sparsity, self.dense = sparsity, dense

    def combine(self, updates: Updates) -> tuple[Vector, Verdict]:
        """Return the global parameters moved layer by layer."""
        norms = updates.norms()
        factor = clip_factors(norms, float(np.median(norms)))[:, None]
        limits = self._limits(updates)[:, None]
        fresh = updates.global_parameters.copy()
        share = np.zeros(len(updates))
        for layer in updates.layers:
            block = updates.block(layer.part)
            wide = block * factor
            sparse = np.where(np.abs(block) < limits, 0.0, wide) if _is_matrix(layer) else wide
            kept = self._kept(sparse)
            fresh[layer.part] += (wide if self.dense else sparse)[kept].mean(axis=0).astype(np.float32)
            share += kept * (block.shape[1] / updates.dimension)
        return fresh, Verdict(share, 1 - share)

    def _kept(self, block: Floats) -> NDArray[np.bool_]:
        """Return who stays in a layer, shape (n,)."""
        lengths = np.linalg.norm(block, axis=1)
        signs = np.sign(block)
        purity = signs.sum(axis=1) / np.maximum(1.0, np.abs(signs).sum(axis=1))
        kept = (median_scores(lengths) < self.lambda_n) & (median_scores(purity) < self.lambda_s)
        return kept if kept.any() else np.ones(len(kept), bool)

    def _limits(self, updates: Updates) -> Floats:
        """Return the size below which each hospital's weights are set to 0, shape (n,)."""
        matrices = [layer.part for layer in updates.layers if _is_matrix(layer)]
        if not matrices or not self.sparsity:
            return np.zeros(len(updates))
        limits = []
        for update in updates:
            delta = update.delta
            sizes = np.abs(np.concatenate([delta[part] for part in matrices]))
            cut = int(self.sparsity * len(sizes))
            limits.append(float(np.partition(sizes, cut)[cut]))
        return np.array(limits)


def _is_matrix(layer: Layer) -> bool:
    return len(layer.shape) > 1 or layer.kind == "weight"

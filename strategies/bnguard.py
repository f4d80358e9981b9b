"""The larger group by the running statistics of the first normalisation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedrobust.aggregation.clusters import two_means
from fedrobust.errors import UserError
from fedrobust.federation import Defence, Layer, Updates, Verdict

__all__ = ["BNGuard"]

Floats = NDArray[np.float64]


class BNGuard(Defence):
    """Groups hospitals by the running statistics of the first BatchNorm layer (Xu et al., MobiHoc 2025).

    Algorithm
    ---------
    The feature of a hospital is the mean and the variance of the running mean, and the mean and the variance
    of the running variance, of the first BatchNorm layer. Two means split the hospitals in two groups; the
    larger is averaged, the other flagged. Of two equally large groups neither is flagged. The score is the
    distance of the feature from the median one.

    Notes
    -----
    Breakdown point: half of the hospitals. Cost: O(n d) for the mean. It needs a network with BatchNorm, such
    as ``--backbone resnet18``. Running statistics that are not finite are refused before any defence. The two
    means begin at the two features farthest apart, so nothing is drawn.

    References
    ----------
    Xu and others, "SoDa and BNGuard", MobiHoc 2025; the authors' code, SoDa-BNGuard.
    """

    def weigh(self, updates: Updates) -> Verdict:
        """Return weight 1 for the larger group."""
        features = _features(updates)
        away = np.linalg.norm(features - np.median(features, axis=0), axis=1)
        group = two_means(features)
        out = np.zeros(len(updates), bool)
        if 2 * group.sum() != len(group):
            out = group if 2 * group.sum() < len(group) else ~group
        return Verdict(~out, away, out)


def _features(updates: Updates) -> Floats:
    """Return each hospital's four figures, shape (n, 4)."""
    layers: dict[str, Layer] = {}
    for layer in updates.layout.buffers:
        layers.setdefault(layer.kind, layer)
    if not {"mean", "variance"} <= set(layers):
        raise UserError(
            "bnguard needs a network with BatchNorm layers, and this one has none; choose another backbone, "
            "such as --backbone resnet18, or another strategy"
        )
    rows = []
    for update in updates:
        chosen = [layers[kind].of(update.buffers).astype(np.float64) for kind in ("mean", "variance")]
        rows.append([figure for values in chosen for figure in (values.mean(), values.var())])
    return np.array(rows)

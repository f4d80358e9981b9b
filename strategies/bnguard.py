"""The larger group by the running statistics of the first normalisation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
        group = _two_means(features)
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


def _two_means(features: Floats) -> NDArray[np.bool_]:
    """Return who is in the second group; nobody where all features are equal but for rounding."""
    apart = np.linalg.norm(features[:, None] - features[None], axis=2)
    if apart.max() <= 1e-6 * max(1e-12, float(np.abs(features).max())):
        return np.zeros(len(features), bool)
    centres = features[list(np.unravel_index(int(np.argmax(apart)), apart.shape))]
    group = np.zeros(len(features), bool)
    # Each step lowers the sum of squares, and there are finitely many groups.
    while True:
        to_first, to_second = (np.linalg.norm(features - centre, axis=1) for centre in centres)
        fresh = to_second < to_first
        if (fresh == group).all():
            return group
        group = fresh
        if group.any() and not group.all():
            centres = np.stack([features[~group].mean(axis=0), features[group].mean(axis=0)])

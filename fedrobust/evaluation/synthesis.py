"""How near synthetic images are to real ones, by their features: distances, precision and recall.

Plain definitions in float64; features are rows, shape (n, d).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["class_score", "frechet_distance", "kernel_distance", "precision_recall", "recognised"]

Features = NDArray[np.float64]

#: Neighbour whose distance is the radius of an image's ball (Kynkäänniemi et al., NeurIPS 2019).
_NEIGHBOUR = 3


def frechet_distance(one: Features, other: Features) -> float:
    """Return the Fréchet distance of the normal distributions of two sets (Heusel et al., NeurIPS 2017).

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), at least 0; NaN for a set of fewer than two.
    """
    if min(len(one), len(other)) < 2:
        return float("nan")
    first, second = (np.atleast_2d(np.cov(np.asarray(f, np.float64), rowvar=False)) for f in (one, other))
    shift = one.mean(axis=0) - other.mean(axis=0)
    root = _square_root(first)
    # The eigenvalues of C1 C2 are those of the symmetric C1^(1/2) C2 C1^(1/2).
    common = np.sqrt(np.clip(np.linalg.eigvalsh(root @ second @ root), 0, None)).sum()
    return max(0.0, float(shift @ shift + np.trace(first) + np.trace(second) - 2 * common))


def _square_root(symmetric: Features) -> Features:
    values, vectors = np.linalg.eigh(symmetric)
    return np.asarray((vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T)


def kernel_distance(one: Features, other: Features) -> float:
    """Return the unbiased squared maximum mean discrepancy of two sets (Binkowski et al., ICLR 2018).

    The kernel is (x y / d + 1)^3; all images enter at once. It may be below 0; NaN for a set of fewer than
    two.
    """
    if min(len(one), len(other)) < 2:
        return float("nan")

    def kernel(x: Features, y: Features) -> Features:
        return np.asarray((x @ y.T / x.shape[1] + 1) ** 3)

    def within(x: Features) -> float:
        values = kernel(x, x)
        return float((values.sum() - np.trace(values)) / (len(x) * (len(x) - 1)))

    return within(one) + within(other) - 2 * float(kernel(one, other).mean())


def precision_recall(real: Features, made: Features) -> tuple[float, float]:
    """Return improved precision and recall (Kynkäänniemi et al., NeurIPS 2019).

    Precision is the share of made images within the ball around some real one, as far as its third neighbour;
    recall is the share of real images within the ball around some made one. NaN for sets of fewer than four.
    """
    if min(len(real), len(made)) <= _NEIGHBOUR:
        return float("nan"), float("nan")
    across = _squared_distances(real, made)
    radii = [np.sort(_squared_distances(x, x), axis=1)[:, _NEIGHBOUR] for x in (real, made)]
    precision = (across <= radii[0][:, None]).any(axis=0).mean()
    recall = (across <= radii[1]).any(axis=1).mean()
    return float(precision), float(recall)


def class_score(probabilities: NDArray[np.float64]) -> float:
    """Return the Inception Score (Salimans et al., NeurIPS 2016) by any classifier's probabilities, (n, K).

    It lies between 1 and the number of classes: it is high where each image is surely of one class and all
    classes occur.
    """
    p = np.clip(probabilities, np.finfo(np.float64).tiny, None)
    return float(np.exp((p * np.log(p / p.mean(axis=0))).sum(axis=1).mean()))


def _squared_distances(one: Features, other: Features) -> Features:
    products = one @ other.T
    lengths = np.square(one).sum(axis=1)[:, None] + np.square(other).sum(axis=1)
    return np.asarray(np.clip(lengths - 2 * products, 0, None))


def recognised(predicted: NDArray[np.int64], asked: NDArray[np.int64]) -> float:
    """Return the share of images taken for the class that was asked for, averaged over the classes asked."""
    return float(np.mean([(predicted[asked == k] == k).mean() for k in np.unique(asked)]))

"""The server's audit of a round: what each update does to the loss on the server's own images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedrobust.federation import DifferentiableServerData, Updates

__all__ = ["audit_updates"]

Floats = NDArray[np.float64]


def audit_updates(
    updates: Updates, server: DifferentiableServerData, weight: Floats, factor: Floats
) -> tuple[Floats, Floats]:
    """Return each update's harm on the server's images, net of its help for a class, and that by class.

    To first order, a larger weight of an update changes the loss of a class by its inner product with the
    class's gradient at the weighted mean. The harm is the cosine with the gradient of the class-balanced loss
    plus the lowest cosine with one class's gradient, times the length in median lengths. The second term is
    negative where the update helps a class: a benign hospital with another scanner or a rare class harms the
    balanced loss, but helps what it knows. Nothing that a hospital reports is used.

    Parameters
    ----------
    updates : Updates
    server : DifferentiableServerData
    weight, factor : ndarray, shape (n,)
        The mean's weights are their products; a long update's factor is its share of length that counts.

    Returns
    -------
    harm : ndarray, shape (n,)
    classes : ndarray, shape (n, K)
        The cosine of each update with the gradient of each class's loss, plus that with the gradient of the
        class-balanced loss where it is harm; negative is help that does not cost the other classes more.
    """
    share = weight * factor / (weight * factor).sum()
    mean = updates.combination(share)
    balanced = np.zeros(updates.dimension, np.float32)
    found = []
    for gradient in server.gradients(mean, updates.mean_buffers(share)):
        found.append(_cosines(updates, gradient))
        balanced += gradient
    classes = np.column_stack(found)
    norms = updates.norms() * factor
    typical = float(np.median(norms))
    length = norms / typical if typical > 0 else np.zeros(len(norms))
    all_classes = _cosines(updates, balanced)
    harm = (all_classes + classes.min(axis=1)) * length
    return harm, classes + np.maximum(all_classes, 0.0)[:, None]


def _cosines(updates: Updates, vector: NDArray[np.float32]) -> Floats:
    """Return each update's cosine with a vector, shape (n,); 0 where either has no finite length."""

    def work(part: slice) -> Floats:
        wide = vector[part].astype(np.float64)
        return np.array([np.dot(wide, wide), *(np.dot(row, wide) for row in updates.rows(part))])

    square, *inner = np.sum(updates.by_part(work), axis=0)
    both = np.sqrt(square) * updates.norms()
    found = np.divide(inner, both, out=np.zeros(len(updates)), where=both > 0)
    return np.asarray(np.where(np.isfinite(found), found, 0.0))

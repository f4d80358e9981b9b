"""The server's audit of a round: what each update does to the loss on the server's own images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from fedrobust.federation import DifferentiableServerData, Updates
from fedrobust.scoring.class_losses import FEW

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
    model = updates.combination(share), updates.mean_buffers(share)
    gradients = list(server.gradients(*model, _in_turn(server.labels, updates.round)))
    # The gradient of the class-balanced loss is the sum of the classes' gradients.
    *by_class, balanced = _cosines(updates, [*gradients, reduce(np.add, gradients)]).T
    classes, length = np.column_stack(by_class), updates.norms() * factor
    typical = np.median(length)
    length = length / typical if typical > 0 else np.zeros(len(length))
    return (balanced + classes.min(axis=1)) * length, classes + np.maximum(balanced, 0.0)[:, None]


def _in_turn(labels: NDArray[np.int64], round: int) -> NDArray[np.int64]:
    """Return the places of every other image of each class; of the others in the next round.

    Evidence is a mean over rounds, so all count in it. A class of which half would be few counts whole.
    """
    members = [np.flatnonzero(labels == k) for k in np.unique(labels)]
    return np.sort(np.concatenate([own if len(own) <= 2 * FEW else own[round % 2 :: 2] for own in members]))


def _cosines(updates: Updates, vectors: Sequence[NDArray[np.float32]]) -> Floats:
    """Return each update's cosine with each vector, shape (n, K); 0 where either has no finite length."""

    def work(part: slice) -> Floats:
        wide = np.stack([vector[part] for vector in vectors]).astype(np.float64)
        return np.stack([(wide**2).sum(axis=1), *(np.dot(wide, row) for row in updates.rows(part))])

    squares, *inner = np.sum(updates.by_part(work), axis=0)
    both = updates.norms()[:, None] * np.sqrt(squares)
    found = np.divide(inner, both, out=np.zeros(both.shape), where=both > 0)
    return np.where(np.isfinite(found), found, 0.0)

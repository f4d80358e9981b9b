"""The server's audit of a round: what each update does to the loss on the server's own images."""

from __future__ import annotations

from collections.abc import Sequence

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
    balanced loss, but helps what it knows. Nothing that a hospital reports is used. Each round sees every
    other image of a large class, the next round the others.

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
    mean, buffers = updates.combination(share), updates.mean_buffers(share)
    gradients = list(server.gradients(mean, buffers, _in_turn(server.labels, updates.round)))
    inner, squares = _products(updates, gradients)
    norms = updates.norms()
    # The gradient of the class-balanced loss is the sum of the classes' gradients.
    classes = _cosines(inner, norms, np.diagonal(squares))
    balanced = _cosines(inner.sum(axis=1, keepdims=True), norms, squares.sum(keepdims=True)[0])[:, 0]
    lengths = norms * factor
    typical = float(np.median(lengths))
    lengths = lengths / typical if typical > 0 else np.zeros(len(lengths))
    return (balanced + classes.min(axis=1)) * lengths, classes + np.maximum(balanced, 0.0)[:, None]


def _in_turn(labels: NDArray[np.int64], round: int) -> NDArray[np.int64]:
    """Return the places of every other image of each class, ascending; of the others in the next round.

    Evidence is a mean over rounds, so in half of the time for each all images count in it. A class of which
    half would be few counts whole.
    """
    members = [np.flatnonzero(labels == k) for k in np.unique(labels)]
    return np.sort(np.concatenate([own if len(own) <= 2 * FEW else own[round % 2 :: 2] for own in members]))


def _products(updates: Updates, gradients: Sequence[NDArray[np.float32]]) -> tuple[Floats, Floats]:
    """Return the updates' inner products with some vectors, (n, K), and those between these, (K, K)."""

    def work(part: slice) -> Floats:
        wide = np.stack([gradient[part] for gradient in gradients]).astype(np.float64)
        return np.stack([*np.dot(wide, wide.T), *(np.dot(wide, row) for row in updates.rows(part))])

    found = np.sum(updates.by_part(work), axis=0)
    return found[len(gradients) :], found[: len(gradients)]


def _cosines(inner: Floats, norms: Floats, squares: Floats) -> Floats:
    """Return cosines from inner products, (n, K), lengths, (n,), and squared lengths, (K,).

    They are 0 where either has no finite length.
    """
    both = norms[:, None] * np.sqrt(np.maximum(squares, 0.0))
    found = np.divide(inner, both, out=np.zeros_like(inner), where=both > 0)
    return np.where(np.isfinite(found), found, 0.0)

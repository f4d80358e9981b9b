"""The server's audit of a round: each hospital's model, and the aggregate with and without it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedrobust.federation import ServerData, Updates, Vector, ViewedServerData
from fedrobust.scoring.class_losses import images_mean

__all__ = ["Audit", "audit_updates", "balanced_loss", "domain_shift_ratio"]

Floats = NDArray[np.float64]


#: A loss that is larger, or not a number, counts as this.
WORST = 1e6


@dataclass(frozen=True)
class Audit:
    """Losses on the server's own images.

    Attributes
    ----------
    own : ndarray, shape (n, K)
        Loss of each hospital's model by class; NaN for a class of which the server holds no image.
    harm : ndarray, shape (n, K)
        The increase of the loss of the others' mean when the hospital joins it, by class; NaN as above.
    level : float
        The loss of the mean, for scale.
    """

    own: Floats
    harm: Floats
    level: float


def audit_updates(updates: Updates, server: ServerData, trust: Floats, factor: Floats, classes: int) -> Audit:
    """Evaluate each update on the server's images, alone and among the others.

    2n + 1 evaluations, and one more for each hospital that is not fully trusted; one vector of length d at a
    time.

    Parameters
    ----------
    updates : Updates
    server : ServerData
    trust : ndarray, shape (n,)
        The weight of each among the others, not negative: the trust after the last round.
    factor : ndarray, shape (n,)
        Each difference is scaled by it before it is averaged.
    classes : int
        K.
    """
    n = len(updates)
    trust = trust if trust.sum() - trust.max() > 0 else np.ones(n)
    buffers = updates.mean_buffers(trust)
    own = np.array([_by_class(server, update.parameters, update.buffers, classes) for update in updates])
    base = updates.global_parameters
    total = updates.combination(trust * factor) - base
    level = _by_class(server, base + total / np.float32(trust.sum()), buffers, classes)
    harm = np.zeros((n, classes))
    for i in range(n):
        step = np.float32(factor[i]) * updates[i].delta
        others = total - np.float32(trust[i]) * step
        weight = trust.sum() - trust[i]
        if weight <= 0:
            continue
        without = _by_class(server, base + others / np.float32(weight), buffers, classes)
        joined = level
        if trust[i] != 1:
            joined = _by_class(server, base + (others + step) / np.float32(weight + 1), buffers, classes)
        harm[i] = joined - without
    return Audit(own, harm, float(np.nanmean(level)))


def domain_shift_ratio(updates: Updates, server: ServerData, held: Floats, who: NDArray[np.bool_]) -> Floats:
    """Return the lowest loss of hospitals' models under other scanners' domain shifts, over that without.

    Parameters
    ----------
    updates : Updates
    server : ServerData
    held : ndarray, shape (n, K)
        Images of each class that each hospital reports.
    who : ndarray of bool, shape (n,)
        The hospitals to evaluate.

    Returns
    -------
    ndarray, shape (n,)
        1 for hospitals that are not evaluated, for those with no lower loss under any shift, and where the
        server cannot apply domain shifts.
    """
    ratio = np.ones(len(updates))
    # The shifted images are made when they are first asked for: only if a hospital is anomalous.
    if not who.any() or not isinstance(server, ViewedServerData) or len(views := server.views()) < 2:
        return ratio
    for i in np.flatnonzero(who):
        parameters, buffers = updates[i].parameters, updates[i].buffers
        seen = np.array([_by_class(view, parameters, buffers, held.shape[1]) for view in views])
        here, *there = images_mean(seen, np.tile(held[i], (len(seen), 1)))
        # A class of which the server has no image does not count.
        if here > 0:
            ratio[i] = min(1.0, *(value / here for value in there))
    return ratio


def balanced_loss(server: ServerData, parameters: Vector, buffers: Vector, classes: int) -> float:
    """Return a model's loss on the server's images, the mean over the classes that it holds images of."""
    return float(np.nanmean(_by_class(server, parameters, buffers, classes)))


def _by_class(server: ServerData, parameters: Vector, buffers: Vector, classes: int) -> Floats:
    losses = np.minimum(np.nan_to_num(server.losses(parameters, buffers), nan=WORST), WORST)
    counts = np.bincount(server.labels, minlength=classes)[:classes]
    sums = np.bincount(server.labels, weights=losses, minlength=classes)[:classes]
    return np.asarray(np.divide(sums, counts, out=np.full(classes, np.nan), where=counts > 0))

"""Inner-product manipulation: the honest mean, turned round."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedrobust.colluding import alike, positive, seen, sees
from fedrobust.federation import Attack, Update

__all__ = ["Ipm"]


class Ipm(Attack):
    """Sends the mean of the honest updates times -epsilon, so that the aggregate turns against the honest mean.

    Xie et al., "Fall of Empires: Breaking Byzantine-tolerant SGD by Inner Product Manipulation", UAI 2020, section 4,
    on differences from the global model. A small epsilon passes rules that look at distances (Krum, medians); to turn
    a plain mean of n hospitals, m of them colluding, it must exceed (n - m) / m.

    Parameters
    ----------
    epsilon : float
        Positive.
    knowledge : str
        ``all``, as in the paper; ``colluders`` takes the mean of the colluders' own updates in its place.
    """

    def __init__(self, epsilon: float = 0.5, knowledge: str = "all") -> None:
        """Check the options."""
        self.epsilon = positive("ipm", "epsilon", epsilon)
        self.knowledge = sees("ipm", knowledge)

    def collude(self, colluders: Sequence[Update], honest: Sequence[Update]) -> list[Update]:
        """Return the turned mean for each colluder."""
        updates = seen(colluders, honest)
        return alike(colluders, updates.combination(np.full(len(updates), -self.epsilon / len(updates))))

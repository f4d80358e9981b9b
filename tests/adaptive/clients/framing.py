"""Resembles honest hospitals so closely that a search for colluders flags them too."""

import numpy as np

from fedrobust.federation import Attack


class Framing(Attack):
    """Sends the honest mean, moved by what sets its victims, the first honest hospitals, apart from it."""

    knowledge = "all"

    def __init__(self, victims: int = 2, strength: float = 3.0) -> None:
        self.victims, self.strength = victims, strength

    def collude(self, colluders, honest):
        if len(honest) <= self.victims:
            return colluders
        deltas = np.array([update.delta for update in honest], np.float64)
        mean = deltas.mean(axis=0)
        way, size = (deltas[: self.victims] - mean).sum(axis=0), np.linalg.norm(deltas - mean, axis=1).mean()
        sent = mean + self.strength * size * way / max(np.linalg.norm(way), 1e-12)
        return [update.with_delta(sent) for update in colluders]

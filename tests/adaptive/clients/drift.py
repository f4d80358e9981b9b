"""Pulls the model the same way in every round."""

import numpy as np

from fedrobust.federation import Attack, Update


class Drift(Attack):
    """Adds one fixed random direction to each update, `strength` times as long as the update itself."""

    def __init__(self, strength: float = 3.0, direction: int = 7) -> None:
        self.strength, self.direction = strength, direction

    def poison_update(self, update: Update) -> Update:
        delta = update.delta
        way = np.random.default_rng(self.direction).standard_normal(len(delta))
        return update.with_delta(delta + self.strength * np.linalg.norm(delta) / np.linalg.norm(way) * way)

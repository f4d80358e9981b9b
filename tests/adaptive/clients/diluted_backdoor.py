"""Hides what colluders have in common under noise of their own."""

import numpy as np

from fedrobust.federation import Attack, Update


class DilutedBackdoor(Attack):
    """Adds noise that no other colluder has, `noise` x as long as the update. Stands behind `backdoor`."""

    def __init__(self, noise: float = 1.0) -> None:
        self.noise = noise

    def poison_update(self, update: Update) -> Update:
        delta = update.delta
        own = self.rng.standard_normal(len(delta))
        return update.with_delta(delta + self.noise * np.linalg.norm(delta) / np.linalg.norm(own) * own)

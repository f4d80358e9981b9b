"""Attacks the last layers only, a small part of the update's length."""

from fedrobust.federation import Attack, Update


class LayerFlip(Attack):
    """Multiplies the last `share` of the coordinates, where the classifier is, by `-scale`."""

    def __init__(self, share: float = 0.1, scale: float = 5.0) -> None:
        self.share, self.scale = share, scale

    def poison_update(self, update: Update) -> Update:
        delta = update.delta
        delta[round(len(delta) * (1 - self.share)) :] *= -self.scale
        return update.with_delta(delta)

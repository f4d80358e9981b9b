"""When to lower the learning rate, and when to stop."""

from __future__ import annotations

__all__ = ["Plateau"]

_FACTOR, _PATIENCE, _THRESHOLD, _SMALLEST_STEP = 0.1, 10, 1e-4, 1e-8


class Plateau:
    """Learning rate and patience after the validation loss, both in rounds.

    The learning rate falls to a tenth after more than 10 rounds without a loss that is lower by one part in
    10,000: the rule and the defaults of torch's ReduceLROnPlateau, without its optimiser, whose import
    takes a second. `patience` rounds without any better loss end the training.

    Parameters
    ----------
    lr : float
        In the first round.
    patience : int

    Attributes
    ----------
    lr : float
        In the next round.
    """

    def __init__(self, lr: float, patience: int) -> None:
        """Begin before round 1."""
        self.lr = lr
        self._patience = patience
        self._clearly_best = self._best = float("inf")
        self._bad = self._waited = 0

    def exhausted(self, loss: float | None) -> bool:
        """Record a round's validation loss, None if it is not finite; return whether patience has run out."""
        loss = float("inf") if loss is None else loss
        if loss < self._clearly_best * (1 - _THRESHOLD):
            self._clearly_best, self._bad = loss, 0
        else:
            self._bad += 1
        if self._bad > _PATIENCE:
            self._bad = 0
            if self.lr - self.lr * _FACTOR > _SMALLEST_STEP:
                self.lr *= _FACTOR
        self._waited = 0 if loss < self._best else self._waited + 1
        self._best = min(self._best, loss)
        return self._waited >= self._patience

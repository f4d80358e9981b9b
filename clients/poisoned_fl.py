"""PoisonedFL: pushes the global model in the same direction round after round."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from fedrobust.federation import Attack, Update, Vector
from fedrobust.plugins.options import Fraction
from fedrobust.seeding import generator

__all__ = ["PoisonedFL"]

#: The normal distribution's 99 % quantile: how many standard deviations of a fair coin's heads the agreement
#: of the model's drift with the fixed signs must exceed its mean.
_QUANTILE = 2.326


class PoisonedFL(Attack):
    """Sends updates of fixed random signs whose effects add up, scaled by what the model moved last.

    Xie, Fang and Gong, "Model Poisoning Attacks to Federated Learning via Multi-Round Consistency", CVPR
    2025. All attackers have the same signs s. With h the difference between the last two models that the
    hospital received, and m the difference that it sent last, v_j = abs(h_j - m_j |h| / |m|) is what the
    others moved; it sends lambda |h| v s / |v s|. Every `period` rounds it counts the parameters that moved
    by the signs since the last count. If they are not more than the 99 % quantile of as many fair coins, for
    which the normal approximation stands at any size of model, lambda shrinks to `shrink` times itself, at
    least to `least`. It knows no other hospital's update.

    Without a model received before, in its first round, a hospital sends what it trained. A hospital that is
    not asked in every round takes its own last two rounds for the last two of the federation.

    Parameters
    ----------
    scale : float
        The first lambda.
    period : int
        Rounds between counts.
    shrink : float
        lambda's factor after a count that fails.
    least : float
        The smallest lambda.
    """

    def __init__(
        self,
        scale: PositiveFloat = 8.0,
        period: PositiveInt = 50,
        shrink: Fraction = 0.7,
        least: NonNegativeFloat = 0.5,
    ) -> None:
        """Keep the options."""
        self.scale, self.period, self.shrink, self.least = scale, period, shrink, least

    def poison_update(self, update: Update) -> Update:
        """Return the update with the difference that continues the last one sent."""
        memory, received = self.memory, update.global_parameters
        delta = update.delta
        if "received" in memory:
            moved = self._moved(received - memory["received"], memory["sent"], self._scale(update))
            delta = delta if moved is None else moved
        else:
            memory |= {"counted": received, "counted-round": update.round, "scale": self.scale}
        memory |= {"received": received, "sent": delta}
        return update.with_delta(delta)

    def _moved(self, change: Vector, sent: Vector, scale: float) -> Vector | None:
        """Return the next difference; None where the model, or only this hospital, moved it not at all."""
        h, m = change.astype(np.float64), sent.astype(np.float64)
        length, own = np.linalg.norm(h), np.linalg.norm(m)
        others = np.abs(h - m * (length / own)) if own else np.abs(h)
        total = np.linalg.norm(others)
        if not total:
            return None
        return np.asarray(scale * length / total * others * self._signs(len(h)), np.float32)

    def _scale(self, update: Update) -> float:
        """Return lambda, after a count where one is due."""
        memory, received = self.memory, update.global_parameters
        if update.round - memory["counted-round"] >= self.period:
            d = len(received)
            agree = np.count_nonzero(np.sign(received - memory["counted"]) == self._signs(d))
            if agree <= d / 2 + _QUANTILE * np.sqrt(d) / 2:
                memory["scale"] = max(self.least, self.shrink * memory["scale"])
            memory |= {"counted": received, "counted-round": update.round}
        return float(memory["scale"])

    def _signs(self, d: int) -> NDArray[np.int8]:
        """Return the signs that all attackers share."""
        drawn = generator(self.role.seed, "poisoned-fl").integers(0, 2, d, dtype=np.int8)
        return np.asarray(2 * drawn - 1, np.int8)

"""XFED: goes against its own training, as far as the model's recent moves let it."""

from __future__ import annotations

import numpy as np
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from fedrobust.attacks.strength import part_way
from fedrobust.federation import Attack, Update
from fedrobust.plugins.options import Fraction

__all__ = ["Xfed"]

#: A normal distribution's standard deviation is so many times its median absolute deviation.
_NORMAL = 1.4826


class Xfed(Attack):
    """Adds the opposite of its own direction, scaled by how far the global model has moved of late.

    Mouri, Ridowan and Abdullah, "XFED: Non-Collusive Model Poisoning Attack Against Byzantine-Robust
    Federated Classifiers", arXiv 2604.09489, 2026. No attacker knows another one, a benign update or the
    defence. With L the lengths of the last `window` moves of the model that the hospital saw, the benign
    scale is s = median(L) + spread 1.4826 MAD(L), and with b its own trained difference it sends b + scale s
    p, where p = -b / |b| is the inverse unit perturbation. This follows the abstract, which names the
    estimate and the perturbation; how the two are weighed, and the window, are chosen here.

    Before it has seen a move, in its first round, a hospital sends what it trained.

    Parameters
    ----------
    scale : float
        How many benign scales the perturbation is long.
    window : int
        Of how many moves the benign scale is estimated.
    spread : float
        How many deviations are added to the median.
    strength : float
        The share of the way from the hospital's own update to the forged one; 0 is an honest hospital.
    """

    def __init__(
        self,
        scale: PositiveFloat = 5.0,
        window: PositiveInt = 5,
        spread: NonNegativeFloat = 1.0,
        strength: Fraction = 1.0,
    ) -> None:
        """Keep the options."""
        self.scale, self.window, self.spread, self.strength = scale, window, spread, strength

    def poison_update(self, update: Update) -> Update:
        """Return the trained update, pushed back along its own direction."""
        memory, received = self.memory, update.global_parameters
        lengths = list(memory.get("lengths", []))
        if "received" in memory:
            move = received.astype(np.float64) - memory["received"]
            lengths = [*lengths, float(np.linalg.norm(move))][-self.window :]
        memory |= {"received": received, "lengths": lengths}
        delta = update.delta.astype(np.float64)
        length = float(np.linalg.norm(delta))
        if not lengths or not length:
            return update
        middle = np.median(lengths)
        benign = middle + self.spread * _NORMAL * np.median(np.abs(lengths - middle))
        forged = update.with_delta(delta * (1 - self.scale * benign / length))
        return part_way(update, forged, self.strength)

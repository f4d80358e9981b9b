"""ROP: pushes the aggregate at a right angle to where it goes, which a defence on directions cannot see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat

from fedrobust.attacks.collusion import alike, seen
from fedrobust.federation import Attack, Update
from fedrobust.plugins.options import Fraction

__all__ = ["Rop"]

Floats = NDArray[np.float64]


class Rop(Attack):
    """Sends a point near the last aggregate, perturbed at an angle to the direction that all go in.

    Ozfatura, Ozfatura, Kupcu and Gunduz, "Byzantines Can Also Learn From History: Fall of Centered Clipping
    in Federated Learning", IEEE TIFS 2024. With g the last move of the global model and mu the mean of the
    honest updates, the location is pi g + (1 - pi) mu and the reference r = lambda g + (1 - lambda) mu. The
    vector of ones, less its projection on r and scaled to length 1, is v; the perturbation v sin(angle) + r /
    |r| cos(angle) has length z. At 270 degrees it is -v. All colluders send the same.

    In the paper hospitals send momenta of gradients, and g is the server's momentum. Here they send
    differences of trained models, whose length depends on the training, so z counts mean lengths of the
    updates that the attack sees. In its first round there is no move: g is 0 and r is mu.

    Parameters
    ----------
    z : float
        Length of the perturbation, in mean lengths of the honest updates.
    pi : float
        Location between mu (0) and the last move (1).
    lam : float
        lambda, the reference between mu (0) and the last move (1).
    angle : float
        Of the perturbation to the reference, in degrees.
    knowledge : str
        ``all``, as in the paper; ``colluders`` takes the updates that the colluders trained as honest ones.
    strength : float
        The share of the way from the hospital's own update to the forged one; 0 is an honest hospital.
    """

    knowledge: Literal["own", "colluders", "all"] = "all"

    def __init__(
        self,
        z: PositiveFloat = 2.0,
        pi: Fraction = 1.0,
        lam: Fraction = 0.9,
        angle: float = 270.0,
        knowledge: Literal["colluders", "all"] = "all",
        strength: Fraction = 1.0,
    ) -> None:
        """Keep the options."""
        self.z, self.pi, self.lam, self.angle = z, pi, lam, angle
        self.knowledge, self.strength = knowledge, strength

    def collude(self, colluders: Sequence[Update], honest: Sequence[Update]) -> Sequence[Update]:
        """Return the perturbed location for each colluder."""
        updates = seen(colluders, honest)
        received = updates.global_parameters.astype(np.float64)
        mean = updates.mean(np.ones(len(updates))) - received
        last = received - self.memory["received"] if "received" in self.memory else np.zeros_like(mean)
        known = "received" in self.memory
        self.memory["received"] = np.array(updates.global_parameters)
        reference = self.lam * last + (1 - self.lam) * mean if known else mean
        length = self.z * float(np.mean(np.sqrt(np.maximum(np.diag(updates.gram()), 0))))
        sent = self.pi * last + (1 - self.pi) * mean + length * _turned(reference, self.angle)
        return alike(colluders, (received + sent).astype(np.float32), self.strength)


def _turned(reference: Floats, degrees: float) -> Floats:
    """Return the vector of length 1 that lies at an angle to the reference, towards the vector of ones.

    Where the two are parallel, or the reference is zero, there is no such direction: the ones themselves
    stand for what is orthogonal.
    """
    along = float(np.sqrt(np.sum(np.square(reference))))
    unit = reference / along if along else reference
    ones = np.ones_like(reference)
    across = ones - unit * float(np.sum(unit))
    left = float(np.sqrt(np.sum(np.square(across))))
    if left <= 1e-9 * math.sqrt(len(ones)):
        across, left = ones, math.sqrt(len(ones))
    turn = math.radians(degrees)
    return np.asarray(math.sin(turn) / left * across + math.cos(turn) * unit)

"""Free rider: takes the global model and gives nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pydantic import NonNegativeFloat

from fedrobust.attacks.strength import part_way
from fedrobust.federation import Attack, Update
from fedrobust.plugins.options import Fraction

__all__ = ["FreeRider"]


class FreeRider(Attack):
    """Returns the global model as received, or with a noise that fades over the rounds.

    Fraboni et al., "Free-rider Attacks on Model Aggregation in Federated Learning", AISTATS 2021: the plain
    free rider returns the model; the disguised one adds phi(t) epsilon with phi(t) = noise t^-decay and
    standard normal epsilon, t counted from 1. The running statistics are the received ones. What the hospital
    reports of its training stays; ``forge-loss`` and ``forge-size`` change that.

    Parameters
    ----------
    noise : float
        sigma, the noise's standard deviation for each parameter in round 1; 0 is the plain attack. The
        authors take that of the global model's first step; about 1e-3 suits the default model and learning
        rate.
    decay : float
        gamma; the authors take 0.5, 1 and 2.
    strength : float
        The share of its own training that it leaves out; 1 is the paper, 0 an honest hospital.
    """

    def __init__(
        self, noise: NonNegativeFloat = 0.0, decay: NonNegativeFloat = 1.0, strength: Fraction = 1.0
    ) -> None:
        """Keep the options."""
        self.noise, self.decay, self.strength = noise, decay, strength

    def poison_update(self, update: Update) -> Update:
        """Return the received model, disguised if that is asked for."""
        buffers = update.global_buffers if len(update.global_buffers) else update.buffers
        received = replace(update, parameters=update.global_parameters, buffers=buffers)
        if not self.noise:
            return part_way(update, received, self.strength)
        std = np.float32(self.noise * update.round**-self.decay)
        noise = std * self.rng.standard_normal(len(update.parameters), dtype=np.float32)
        return part_way(update, received.with_delta(noise), self.strength)

"""Free rider: takes the global model and gives nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from fedrobust.attacks.strength import check_strength, part_way
from fedrobust.errors import UserError
from fedrobust.federation import Attack, Update

__all__ = ["FreeRider"]


class FreeRider(Attack):
    """Returns the global model as received, or with a noise that fades over the rounds.

    Fraboni et al., "Free-rider Attacks on Model Aggregation in Federated Learning", AISTATS 2021: the plain free rider
    returns the model; the disguised one adds phi(t) epsilon with phi(t) = noise t^-decay and standard normal epsilon,
    t counted from 1. The running statistics are the received ones. What the hospital
    reports of its training is left alone; ``forge-loss`` and ``forge-size`` see to that.

    Parameters
    ----------
    noise : float
        sigma, the noise's standard deviation for each parameter in round 1; 0 is the plain attack. The authors take
        that of the global model's first step; about 1e-3 suits the default model and learning rate.
    decay : float
        gamma, not negative; the authors take 0.5, 1 and 2.
    strength : float
        The share of its own training that it leaves out, in (0, 1]; 1 is the paper.
    """

    def __init__(self, noise: float = 0.0, decay: float = 1.0, strength: float = 1.0) -> None:
        """Check the options."""
        self.strength = check_strength("free-rider", strength)
        for name, value in (("noise", noise), ("decay", decay)):
            if not (value >= 0 and math.isfinite(value)):
                raise UserError(f"free-rider: {name} is {value}, but must not be negative")
        self.noise, self.decay = noise, decay

    def poison_update(self, update: Update) -> Update:
        """Return the received model, disguised if that is asked for."""
        buffers = update.global_buffers if len(update.global_buffers) else update.buffers
        received = replace(update, parameters=update.global_parameters, buffers=buffers)
        if not self.noise:
            return part_way(update, received, self.strength)
        std = np.float32(self.noise * update.round**-self.decay)
        noise = std * self.rng.standard_normal(len(update.parameters), dtype=np.float32)
        return part_way(update, received.with_delta(noise), self.strength)

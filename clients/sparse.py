"""Sparse: shifts the few most sensitive weights far and all others a little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat

from clients.alie import largest_z
from fedrobust.attacks.collusion import alike, seen
from fedrobust.federation import Attack, Update, Updates, Vector
from fedrobust.plugins.options import Fraction, PositiveFraction

__all__ = ["Sparse"]


class Sparse(Attack):
    """Sends the mean, shifted by many standard deviations at sensitive weights and by few elsewhere.

    The hybrid sparse attack of Ozfatura et al., "Aggressive, Imperceptible, or Both: Architecture-Aware
    Hybrid Byzantines in Federated Learning", arXiv 2404.06230: mean - std (large M + z (1 - M)), with z as in
    ``alie`` and M a mask of the weights that a pruning at the start would keep. The authors prune with FORCE
    in a hundred steps, on images of all hospitals; here M is found once, in the attack's first round, by one
    step of SNIP (Lee et al., ICLR 2019): the largest abs(w_j mu_j) of each layer of weights, where the mean
    update mu stands for the gradient. Biases and normalisations are never masked, as in the authors' code.
    All colluders send the same.

    Parameters
    ----------
    large : float
        Standard deviations at the masked weights; 1.5 in the authors' code, where many rounds of it add up.
    z : float, optional
        Standard deviations elsewhere; by ALIE's formula unless given, which for few attackers is 0.
    density : float
        Share of a layer's weights that are masked.
    knowledge : str
        ``all``, as in the paper; ``colluders`` takes the updates that the colluders trained as honest ones.
    strength : float
        The share of the way from the hospital's own update to the forged one; 0 is an honest hospital.
    """

    knowledge: Literal["own", "colluders", "all"] = "all"

    def __init__(
        self,
        large: NonNegativeFloat = 30.0,
        z: NonNegativeFloat | None = None,
        density: PositiveFraction = 0.005,
        knowledge: Literal["colluders", "all"] = "all",
        strength: Fraction = 1.0,
    ) -> None:
        """Keep the options."""
        self.large, self.z, self.density = large, z, density
        self.knowledge, self.strength = knowledge, strength

    def collude(self, colluders: Sequence[Update], honest: Sequence[Update]) -> Sequence[Update]:
        """Return the shifted mean for each colluder."""
        updates = seen(colluders, honest)
        if "masked" not in self.memory:
            self.memory["masked"] = _sensitive(updates, self.density)
        small = self._small(len(colluders), len(honest))

        def shifted(far: float) -> Vector:
            def rule(block: Vector) -> Vector:
                wide = block.astype(np.float64)
                moved: Vector = wide.mean(axis=0) - far * wide.std(axis=0)
                return moved

            return updates.by_coordinate(rule, absolute=False)

        sent, masked = shifted(small), self.memory["masked"]
        sent[masked] = shifted(self.large)[masked]
        return alike(colluders, sent, self.strength)

    def _small(self, colluders: int, honest: int) -> float:
        """Return the shift of the weights that are not masked."""
        if self.z is not None:
            return self.z
        if self.role.hospitals is None:
            return largest_z(colluders + honest, colluders)
        return largest_z(self.role.hospitals, self.role.members)


def _sensitive(updates: Updates, density: float) -> NDArray[np.int64]:
    """Return the places of the most sensitive weights of each layer."""
    base = updates.global_parameters.astype(np.float64)
    saliency = np.abs(base * (updates.mean(np.ones(len(updates))) - base))
    found = []
    for layer in updates.layers:
        if layer.kind == "weight":
            size = layer.part.stop - layer.part.start
            kept = max(1, round(density * size))
            found.append(layer.start + np.sort(np.argpartition(-saliency[layer.part], kept - 1)[:kept]))
    return np.concatenate(found).astype(np.int64) if found else np.zeros(0, np.int64)

"""Mimic: all colluders copy one honest hospital, so that it counts too much and the others too little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import NonNegativeInt

from fedrobust.attacks.collusion import check_honest
from fedrobust.attacks.strength import part_way
from fedrobust.data.records import Records
from fedrobust.federation import Attack, Update, Updates
from fedrobust.plugins.options import Fraction

__all__ = ["Mimic"]


class Mimic(Attack):
    """Sends a copy of one honest hospital's update; no outlier, but the others' data lose influence.

    Karimireddy et al., "Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing", ICLR 2022,
    section 3.2 and appendix on the mimic attack: the hospital that sticks out most along the principal
    direction z of the honest updates, argmax_i |<z, x_i>|. The paper gathers z over the first rounds and then
    keeps the hospital; here each round finds it again, so that a resumed run chooses the same. A fixed target
    does what the paper does afterwards.

    Parameters
    ----------
    target : int or str
        The number of an honest hospital, or ``auto``.
    strength : float
        The share of the way from the hospital's own update to the copy; 1 is the paper, 0 an honest hospital.
    """

    knowledge: Literal["own", "colluders", "all"] = "all"

    def __init__(self, target: NonNegativeInt | Literal["auto"] = "auto", strength: Fraction = 1.0) -> None:
        """Keep the options."""
        self.strength, self.target = strength, target

    def check(self, records: Records) -> None:
        """Refuse a hospital that does not exist or is malicious itself."""
        if isinstance(self.target, int):
            check_honest("mimic", "target", self.target, self.role)

    def collude(self, colluders: Sequence[Update], honest: Sequence[Update]) -> list[Update]:
        """Return the victim's parameters and running statistics for each colluder, under its own report."""
        if not honest:
            return list(colluders)
        if self.target == "auto":
            victim = honest[principal(Updates(honest), self.rng)]
        else:
            found = [update for update in honest if update.node == self.target]
            if not found:
                raise ValueError(f"hospital {self.target} is not among the honest ones that replied")
            victim = found[0]
        copies = [replace(u, parameters=victim.parameters, buffers=victim.buffers) for u in colluders]
        return [part_way(*pair, self.strength) for pair in zip(colluders, copies, strict=True)]


def principal(updates: Updates, rng: np.random.Generator) -> int:
    """Return the place of the update with the largest part along the updates' principal direction.

    Power iteration on the centred updates' n x n inner products: z is their combination with coefficients a.
    """
    gram = updates.gram()
    n = len(gram)
    half = gram - gram.mean(axis=0)
    centred = half - half.mean(axis=1, keepdims=True)
    a = rng.standard_normal(n)
    for _ in range(200):
        a = centred @ a
        length = np.linalg.norm(a)
        if not length:
            return 0
        a /= length
    # <z, x_i> up to a common factor, with z = sum_j a_j (x_j - mean).
    return int(np.argmax(np.abs(a @ half)))

"""LP: poisons only the layers without which the backdoor does not work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import numpy as np
from pydantic import NonNegativeFloat, PositiveInt

from fedrobust.errors import UserError
from fedrobust.federation import Attack, Layer, Layout, Update, Vector
from fedrobust.plugins.options import PositiveFraction

__all__ = ["Lp"]

#: The share of stamped images that a model, of parameters and running statistics, assigns as they shall be.
_Rate = Callable[[Vector, Vector], float]


class Lp(Attack):
    """Sends an honest model with the backdoor-critical layers of a poisoned one.

    Zhuang et al., "Backdoor Federated Learning by Poisoning Backdoor-Critical Layers", ICLR 2024. It stands
    after an attack with a trigger, ``backdoor + lp``, and its hospital trains twice: b on its clean records
    and m on the poisoned ones. Forward, each layer of m in turn is replaced by that of b, and layers are
    ordered by how much of m's backdoor success rate that costs; backward, layers of m are put into b in this
    order until the rate is `tau` of m's. With L those layers it sends lam m + (1 - lam) b in L and b
    elsewhere, running statistics b's. The layers are kept as long as they reach the rate, as in the authors'
    code.

    The rate is measured on the hospital's clean images of other classes, stamped; it also trains on some of
    them, where the authors hold out a quarter. Where the paper takes the attackers' mean of b, each attacker
    takes its own. The paper's search for lam and tau against a copy of the defence is left out.

    Parameters
    ----------
    tau : float
        The share of m's backdoor success rate to reach.
    lam : float
        How much of m's layers is sent; above 1 is further than m.
    images : int
        On how many stamped images the rate is measured, at most.
    """

    needs_honest: ClassVar[bool] = True
    needs_model: ClassVar[bool] = True

    def __init__(
        self, tau: PositiveFraction = 0.95, lam: NonNegativeFloat = 1.0, images: PositiveInt = 64
    ) -> None:
        """Keep the options."""
        self.tau, self.lam, self.images = tau, lam, images

    def poison_update(self, update: Update) -> Update:
        """Return the honest update with the critical layers of the poisoned one."""
        trigger = self.model.stamped
        if trigger is None:
            raise UserError("lp: no attack of its chain has a trigger; write backdoor + lp")
        count = len(trigger.records)
        chosen = np.linspace(0, count - 1, min(self.images, count)).astype(np.int64)
        target = np.broadcast_to(trigger.target, count)[chosen]
        images = trigger.records.images[chosen]

        def rate(parameters: Vector, buffers: Vector) -> float:
            found = self.model.probabilities(parameters, buffers, images)
            return float((found.argmax(axis=1) == target).mean())

        layout = update.layout or Layout.whole(len(update.parameters), len(update.buffers))
        critical = self._critical(update, self.honest, layout.parameters, rate)
        self.memory["layers"] = [layer.name for layer in critical]
        sent, benign = self.honest.parameters.copy(), self.honest.parameters
        for layer in critical:
            poisoned = update.parameters[layer.part]
            sent[layer.part] = benign[layer.part] + self.lam * (poisoned - benign[layer.part])
        return replace(update, parameters=sent, buffers=self.honest.buffers)

    def _critical(
        self, poisoned: Update, benign: Update, layers: tuple[Layer, ...], rate: _Rate
    ) -> list[Layer]:
        """Return the layers of the poisoned model that are enough, the most critical first."""
        wanted = self.tau * rate(poisoned.parameters, poisoned.buffers)
        kept = [layer for layer in layers if layer.name in self.memory.get("layers", [])]
        if kept and rate(_with(benign, poisoned, kept), benign.buffers) >= wanted:
            return kept
        without = [rate(_with(poisoned, benign, [layer]), poisoned.buffers) for layer in layers]
        critical: list[Layer] = []
        for place in np.argsort(without, kind="stable"):
            critical.append(layers[place])
            if rate(_with(benign, poisoned, critical), benign.buffers) >= wanted:
                break
        return critical


def _with(model: Update, other: Update, layers: list[Layer]) -> Vector:
    """Return a model's parameters with some layers of another."""
    made = model.parameters.copy()
    for layer in layers:
        made[layer.part] = other.parameters[layer.part]
    return made

"""3DFed: a held-in backdoor under cancelling noise, tuned by what the server did with its last update."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat

from fedrobust.federation import Attack, GradientHook, Layout, Update, Vector
from fedrobust.plugins.options import Fraction
from fedrobust.seeding import generator

__all__ = ["ThreeDFed"]

Floats = NDArray[np.float64]

#: Of the move that a plain mean makes of an indicator, at least so much counts as accepted and as clipped.
_ACCEPTED, _CLIPPED = 0.8, 0.2


class ThreeDFed(Attack):
    """Keeps the training near the received model, masks the update, and reads back what became of it.

    Li et al., "3DFed: Adaptive and Extensible Framework for Covert Backdoor Attack in Federated Learning",
    IEEE S&P 2023. It stands after an attack on records, ``backdoor + threedfed``. The loss is 1 - pull of the
    task's and pull |w - w_t|; an update shorter than an honest one is lengthened, up to `stretch`. The last
    layer of weights is masked by noise of which the attackers' sum is zero. At one weight that neither
    training moves, each attacker its own, it sends an indicator. The next model shows by what part of it the
    weight moved: accepted, clipped, or rejected, or noise of the server's. Unless the last update was
    accepted the noise gets another length; under noise of the server's it stays short.

    Left out are decoys, which are further attackers' models, and the optimisation of the masks, which here
    are drawn: their lengths are alpha honest ones, with alpha from `noise` to 1. An indicator is where the
    differences are smallest, without the authors' second derivatives, and as long as a share of an honest
    update, since under an optimiser like Adam no weight stays where it is. Where the number of hospitals is
    unknown, clipped is not told from accepted. Attackers whose updates meet different ends draw different
    lengths, and their noise then cancels in part.

    Parameters
    ----------
    pull : float
        Weight of the distance to the received model; 0.4 in the authors' code.
    stretch : float
        How many times the update may be lengthened; 5 in the authors' code.
    noise : float
        The smallest length of the masks, in lengths of the honest layer.
    indicator : float
        Length of an indicator, in lengths of the honest update; 0 sends none.
    """

    needs_honest: ClassVar[bool] = True

    def __init__(
        self,
        pull: Annotated[float, Field(ge=0, lt=1)] = 0.4,
        stretch: PositiveFloat = 5.0,
        noise: Fraction = 0.1,
        indicator: NonNegativeFloat = 0.2,
    ) -> None:
        """Keep the options."""
        self.pull, self.stretch, self.noise, self.indicator = pull, stretch, noise, indicator

    def gradient_hook(self, received: Vector) -> GradientHook | None:
        """Return the gradient of (1 - pull) L + pull |w - w_t|."""
        if not self.pull:
            return None

        def hooked(parameters: Vector, gradient: Vector) -> Vector:
            apart = np.subtract(parameters, received, dtype=np.float64)
            length = float(np.sqrt(np.sum(np.square(apart))))
            towards = apart / length if length else apart
            return np.asarray((1 - self.pull) * gradient + self.pull * towards, np.float32)

        return hooked

    def poison_update(self, update: Update) -> Update:
        """Return the update lengthened, masked and with its indicator."""
        fate, memory = self._fate(update.global_parameters), self.memory
        if fate == "noise":
            memory["alpha"] = self.noise
        elif "alpha" not in memory or fate in ("clipped", "rejected"):
            memory["alpha"] = float(self._shared(update.round).uniform(self.noise, 1.0))
        memory["fate"] = fate
        delta, honest = update.delta.astype(np.float64), self.honest.delta.astype(np.float64)
        length, usual = float(np.linalg.norm(delta)), float(np.linalg.norm(honest))
        if length:
            delta *= max(1.0, min(usual / length, self.stretch))
        layout = update.layout or Layout.whole(len(delta), len(update.buffers))
        weights = [layer.part for layer in layout.parameters if layer.kind == "weight"]
        for last in weights[-1:]:
            long = memory["alpha"] * float(np.linalg.norm(honest[last]))
            delta[last] += long * self._mask(last.stop - last.start, update.round)
        if self.indicator and usual and weights:
            place = self._place(np.abs(delta) + np.abs(honest), weights)
            delta[place] = self.indicator * usual
            memory |= {"place": place, "value": float(delta[place])}
            memory["before"] = float(update.global_parameters[place])
        return update.with_delta(delta)

    def _fate(self, received: Vector) -> Literal["none", "accepted", "clipped", "rejected", "noise"]:
        """Return what the server did with the last update, as the model that it gave shows."""
        memory = self.memory
        if "place" not in memory:
            return "none"
        fed_back = (float(received[memory["place"]]) - memory["before"]) / memory["value"]
        plain = 1 / (self.role.hospitals or 1)
        if fed_back > 1 or fed_back < -_CLIPPED * plain:
            return "noise"
        if self.role.hospitals is None:
            return "accepted" if fed_back > 0 else "rejected"
        if fed_back >= _ACCEPTED * plain:
            return "accepted"
        return "clipped" if fed_back >= _CLIPPED * plain else "rejected"

    def _mask(self, size: int, round: int) -> Floats:
        """Return this attacker's mask, whose sum over the attackers is zero; of length 1 on the average."""
        drawn = self._shared(round, "mask").standard_normal((self.role.members, size))
        drawn -= drawn.mean(axis=0)
        length = float(np.sqrt(np.mean(np.sum(np.square(drawn), axis=1))))
        own: Floats = drawn[self.role.member]
        return own / length if length else own

    def _place(self, moved: Floats, weights: list[slice]) -> int:
        """Return the place of a weight that moves least, another one for each attacker."""
        among = np.concatenate([np.arange(part.start, part.stop) for part in weights])
        order = np.argsort(moved[among], kind="stable")
        return int(among[order[self.role.member % len(among)]])

    def _shared(self, round: int, what: str = "alpha") -> np.random.Generator:
        """Return a generator that all attackers have alike."""
        return generator(self.role.seed, f"threedfed {what}", round)

"""What attacks that see several updates share: the updates that they use, and the points that they send."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from fedrobust.aggregation.geometry import squared_distances
from fedrobust.attacks.strength import part_way
from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.federation import Attack, Role, Update, Updates, Vector
from fedrobust.plugins.options import Fraction

__all__ = [
    "PERTURBATIONS",
    "Agnostic",
    "Line",
    "Perturbation",
    "alike",
    "check_honest",
    "seen",
    "warn_alone",
]

Floats = NDArray[np.float64]

#: The directions of Shejwalkar & Houmansadr, section IV-B.
Perturbation = Literal["std", "unit", "sign"]
PERTURBATIONS: tuple[Perturbation, ...] = ("std", "unit", "sign")


def check_honest(attack: str, option: str, number: int, role: Role) -> None:
    """Raise `UserError` for the number of a hospital that does not exist or is malicious itself."""
    if role.hospitals is not None and number >= role.hospitals:
        raise UserError(
            f"{attack}: {option} is {number}, but the hospitals are 0 to {role.hospitals - 1}; "
            "name one of them"
        )
    if number in role.attackers:
        numbers = ", ".join(map(str, role.attackers))
        raise UserError(
            f"{attack}: {option} is {number}, but that hospital is malicious itself, as are with this seed "
            f"{numbers}; name an honest one"
        )


def seen(colluders: Sequence[Update], honest: Sequence[Update]) -> Updates:
    """Return the updates that an attack uses as honest ones.

    Those of the honest hospitals where it sees them; otherwise what the colluders would send by themselves,
    as in the papers' partial knowledge.
    """
    return Updates(honest or colluders)


def alike(colluders: Sequence[Update], parameters: Vector, strength: float = 1.0) -> list[Update]:
    """Return the colluders' updates with the same parameters each; the rest stays their own.

    With a strength below 1 each goes that share of the way from its own parameters.
    """
    return [part_way(update, replace(update, parameters=parameters), strength) for update in colluders]


def warn_alone(attack: str) -> None:
    """Warn that a single hospital carries out an attack that compares its colluders."""
    warnings.warn(
        f"{attack}: a single colluder has no other update to compare, so it has no effect; use knowledge=all",
        stacklevel=3,
    )


class Line:
    """The points mean + gamma p from the mean of some updates, all as differences from the global model.

    Parameters
    ----------
    updates : Updates
    perturbation : str
        The direction p: ``std``, minus the standard deviation of each coordinate; ``unit``, minus the mean
        scaled to length 1; or ``sign``, minus the mean's signs.
    """

    def __init__(self, updates: Updates, perturbation: Perturbation) -> None:
        """Compute the mean, p, and the inner products that give every distance; one pass over the updates."""
        self._updates = updates
        self._mean, self._p = np.empty(updates.dimension), np.empty(updates.dimension)
        self._variation, self._along, self._length = np.zeros(len(updates)), np.zeros(len(updates)), 0.0
        for part, block in updates.deltas():
            wide = block.astype(np.float64)
            mean = wide.mean(axis=0)
            p = -{"std": wide.std(axis=0), "sign": np.sign(mean), "unit": mean}[perturbation]
            self._mean[part], self._p[part] = mean, p
            wide -= mean
            self._variation += np.square(wide).sum(axis=1)
            self._along += wide @ p
            self._length += float(p @ p)
        if perturbation == "unit" and self._length:
            scale = 1 / np.sqrt(self._length)
            self._p *= scale
            self._along *= scale
            self._length = 1.0
        self.squares = squared_distances(updates.gram())

    def at(self, gamma: float) -> Vector:
        """Return the parameters at a point of the line, shape (d,)."""
        return (self._updates.global_parameters + self._mean + gamma * self._p).astype(np.float32)

    def squares_to(self, gamma: float) -> Floats:
        """Return the squared distances of a point of the line to the updates, shape (n,)."""
        return np.asarray(self._variation - 2 * gamma * self._along + gamma**2 * self._length)

    def farthest(self, allowed: Callable[[Floats], bool]) -> float:
        """Return the largest gamma whose squared distances to the updates are allowed, to about a millionth.

        Shejwalkar & Houmansadr, NDSS 2021, algorithm 1. Their initial gamma is given; here it is twice the
        updates' largest distance, beyond which neither of their rules allows a point, so nothing depends on
        the model's scale.
        """
        start = 2 * float(np.sqrt(self.squares.max() / self._length)) if self._length else 0.0
        gamma, step, good = start, start, 0.0
        while abs(good - gamma) > 1e-6 * start:
            step /= 2
            if allowed(self.squares_to(gamma)):
                good = gamma
                gamma += step
            else:
                gamma -= step
        return good


class Agnostic(Attack):
    """Sends the honest mean, moved as far as distances between the honest updates allow.

    Shejwalkar & Houmansadr, "Manipulating the Byzantine", NDSS 2021, section IV, without knowledge of the
    rule: mean + gamma p with the largest gamma that their halving search (algorithm 1) finds, on differences
    from the global model. All colluders send the same.

    Parameters
    ----------
    perturbation : str
        The direction p: ``std``, minus the standard deviation of each coordinate; ``unit``, minus the mean
        scaled to length 1; or ``sign``, minus the mean's signs.
    knowledge : str
        ``all``: the honest hospitals' updates; ``colluders``: those that the colluders trained stand in for
        them. A single colluder then knows no distance and stays as it is.
    strength : float
        The share of the way from the hospital's own update to the forged one; 1 is the paper, 0 an honest
        hospital.
    """

    knowledge: Literal["own", "colluders", "all"] = "all"

    #: The attack's name, for messages.
    name: ClassVar[str]

    def __init__(
        self,
        perturbation: Perturbation = "std",
        knowledge: Literal["colluders", "all"] = "all",
        strength: Fraction = 1.0,
    ) -> None:
        """Keep the options."""
        self.strength, self.perturbation, self.knowledge = strength, perturbation, knowledge

    def check(self, records: Records) -> None:
        """Warn where the attack has no effect."""
        if self.role.members == 1 and self.knowledge == "colluders":
            warn_alone(self.name)

    @abstractmethod
    def size(self, squares: Floats) -> Floats:
        """Return the measure of squared distances, over the last axis, that must not exceed an honest one."""

    def collude(self, colluders: Sequence[Update], honest: Sequence[Update]) -> list[Update]:
        """Return the moved mean for each colluder."""
        line = Line(seen(colluders, honest), self.perturbation)
        limit = self.size(line.squares).max()
        gamma = line.farthest(lambda squares: bool(self.size(squares) <= limit))
        return alike(colluders, line.at(gamma), self.strength)

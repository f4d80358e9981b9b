"""Inner-product manipulation: the negative of the honest mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import PositiveFloat

from fedrobust.attacks.collusion import alike, seen
from fedrobust.attacks.line_search import LineSearch
from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.federation import Attack, Update
from fedrobust.plugins.options import Fraction

__all__ = ["Ipm"]


class Ipm(Attack):
    """Sends the honest mean times -epsilon, so that the aggregate moves against the honest mean.

    Xie et al., "Fall of Empires: Breaking Byzantine-tolerant SGD by Inner Product Manipulation", UAI 2020,
    section 4, on differences from the global model. A small epsilon passes rules that judge by distances
    (Krum, medians); to reverse a plain mean of n hospitals, m of them colluding, it must exceed (n - m) / m.
    With ``optimal`` the attackers know the defence and try it out, 17 times a round; see
    `fedrobust.attacks.line_search.LineSearch`.

    Parameters
    ----------
    epsilon : float or str
        Positive, or ``optimal``: in each round what moves the defence's result farthest from the honest mean.
    knowledge : str
        ``all``, as in the paper; ``colluders`` takes the mean of the colluders' own updates in its place.
    against : str, optional
        For ``optimal``: the defence to try, such as ``"nnm | krum(f=2)"``. The one in use unless given.
    limit : float, optional
        For ``optimal``: the largest epsilon to try, 10 unless given; the smallest is a thousandth of it.
    strength : float
        The share of the way from the hospital's own update to the forged one; 1 is the paper, 0 an honest
        hospital.
    """

    knowledge: Literal["own", "colluders", "all"] = "all"

    def __init__(
        self,
        epsilon: PositiveFloat | Literal["optimal"] = 0.5,
        knowledge: Literal["colluders", "all"] = "all",
        against: str | None = None,
        limit: PositiveFloat | None = None,
        strength: Fraction = 1.0,
    ) -> None:
        """Check the options that belong together."""
        self.strength = strength
        self.search = LineSearch.given("ipm", "epsilon", epsilon, against, limit)
        self.epsilon = None if isinstance(epsilon, str) else epsilon
        self.knowledge = knowledge
        if self.search and self.knowledge != "all":
            raise UserError("ipm: epsilon=optimal tries the defence on all updates; use knowledge=all")

    def check(self, records: Records) -> None:
        """Refuse a defence that cannot be tried out."""
        if self.search:
            self.search.check(self.role)

    def collude(self, colluders: Sequence[Update], honest: Sequence[Update]) -> Sequence[Update]:
        """Return the scaled negative mean for each colluder."""
        updates = seen(colluders, honest)

        def scaled(epsilon: float) -> list[Update]:
            parameters = updates.combination(np.full(len(updates), -epsilon / len(updates)))
            return alike(colluders, parameters, self.strength)

        if self.epsilon is not None:
            return scaled(self.epsilon)
        assert self.search is not None
        return self.search.worst(scaled, honest, self.role, self.rng) if honest else colluders

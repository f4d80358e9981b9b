"""Inner-product manipulation: the honest mean, turned round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from fedrobust.attacks.collusion import alike, positive, seen, sees
from fedrobust.attacks.line_search import LineSearch
from fedrobust.attacks.strength import check_strength
from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.federation import Attack, Update

__all__ = ["Ipm"]


class Ipm(Attack):
    """Sends the mean of the honest updates times -epsilon, so that the aggregate turns against the honest mean.

    Xie et al., "Fall of Empires: Breaking Byzantine-tolerant SGD by Inner Product Manipulation", UAI 2020, section 4,
    on differences from the global model. A small epsilon passes rules that look at distances (Krum, medians); to turn
    a plain mean of n hospitals, m of them colluding, it must exceed (n - m) / m. With ``optimal`` the attackers know
    the defence and try it out, 17 times a round; see `fedrobust.attacks.line_search.LineSearch`.

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
        The share of the way from the hospital's own update to the forged one, in (0, 1]; 1 is the paper.
    """

    knowledge: Literal["own", "colluders", "all"] = "all"

    def __init__(
        self,
        epsilon: float | str = 0.5,
        knowledge: str = "all",
        against: str | None = None,
        limit: float | None = None,
        strength: float = 1.0,
    ) -> None:
        """Check the options."""
        self.strength = check_strength("ipm", strength)
        self.search = LineSearch.given("ipm", "epsilon", epsilon, against, limit)
        self.epsilon = None if isinstance(epsilon, str) else positive("ipm", "epsilon", epsilon)
        self.knowledge = sees("ipm", knowledge)
        if self.search and self.knowledge != "all":
            raise UserError("ipm: epsilon=optimal tries the defence on all updates; use knowledge=all")

    def check(self, records: Records) -> None:
        """Refuse a defence that cannot be tried."""
        if self.search:
            self.search.check(self.role)

    def collude(self, colluders: Sequence[Update], honest: Sequence[Update]) -> Sequence[Update]:
        """Return the turned mean for each colluder."""
        updates = seen(colluders, honest)

        def turned(epsilon: float) -> list[Update]:
            parameters = updates.combination(np.full(len(updates), -epsilon / len(updates)))
            return alike(colluders, parameters, self.strength)

        if self.epsilon is not None:
            return turned(self.epsilon)
        assert self.search is not None
        return self.search.worst(turned, honest, self.role, self.rng) if honest else colluders

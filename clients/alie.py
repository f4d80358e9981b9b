"""A little is enough: small shifts within the standard deviation of honest updates."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal

import numpy as np
from pydantic import PositiveFloat

from fedrobust.attacks.collusion import alike, seen, warn_alone
from fedrobust.attacks.line_search import LineSearch
from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.federation import Attack, Update, Vector
from fedrobust.plugins.options import Fraction

__all__ = ["Alie"]


class Alie(Attack):
    """Sends the mean of the updates, shifted by z standard deviations in each coordinate.

    Baruch et al., "A Little Is Enough", NeurIPS 2019, algorithm 1, here on differences from the global model:
    mean - z std, as those run against the gradients. All colluders send the same. With n hospitals, m of them
    colluding, and s = floor(n/2 + 1) - m honest ones to win over, z is the largest shift that so many honest
    hospitals lie beyond: the normal quantile of (n - m - s) / (n - m). That is 0, a harmless mean, for few
    attackers; the attack then warns. With ``optimal`` the attackers know the defence and try it out, 17 times
    a round; see `fedrobust.attacks.line_search.LineSearch`.

    Parameters
    ----------
    z : float or str, optional
        The shift in standard deviations. Not given: by the formula. ``optimal``: in each round what moves the
        defence's result farthest from the honest mean.
    knowledge : str, optional
        ``colluders``, as in the paper: mean and std are those of the colluders' own updates; a single
        colluder has no deviation and stays as it is. ``all``: those of the honest hospitals. Not given:
        ``all`` for ``optimal``, which needs it, and ``colluders`` otherwise.
    against : str, optional
        For ``optimal``: the defence to try, such as ``"nnm | krum(f=2)"``. The one in use unless given.
    limit : float, optional
        For ``optimal``: the largest z to try, 10 unless given; the smallest is a thousandth of it.
    strength : float
        The share of the way from the hospital's own update to the forged one; 1 is the paper, 0 an honest
        hospital.
    """

    knowledge: Literal["own", "colluders", "all"] = "colluders"

    def __init__(
        self,
        z: PositiveFloat | Literal["optimal"] | None = None,
        knowledge: Literal["colluders", "all"] | None = None,
        against: str | None = None,
        limit: PositiveFloat | None = None,
        strength: Fraction = 1.0,
    ) -> None:
        """Check the options that belong together."""
        self.strength = strength
        self.search = LineSearch.given("alie", "z", z, against, limit)
        self.z = None if isinstance(z, str) else z
        self.knowledge = knowledge or ("all" if self.search else "colluders")
        if self.search and self.knowledge != "all":
            raise UserError("alie: z=optimal tries the defence on all updates; use knowledge=all")

    def check(self, records: Records) -> None:
        """Refuse a defence that cannot be tried out, and warn where the attack has no effect."""
        if self.search:
            self.search.check(self.role)
            return
        n, m = self.role.hospitals, self.role.members
        if n is not None and self.z is None and not largest_z(n, m):
            warnings.warn(
                f"alie: {m} of {n} hospitals are too few for the paper's formula (z = 0: no effect); "
                f"give it a shift, "
                f"such as alie(z=1.5)",
                stacklevel=2,
            )
        if m == 1 and self.knowledge == "colluders":
            warn_alone("alie")

    def collude(self, colluders: Sequence[Update], honest: Sequence[Update]) -> Sequence[Update]:
        """Return the shifted mean for each colluder."""
        updates = seen(colluders, honest)

        def shifted(z: float) -> list[Update]:
            def rule(block: Vector) -> Vector:
                wide = block.astype(np.float64)
                moved: Vector = wide.mean(axis=0) - z * wide.std(axis=0)
                return moved

            return alike(colluders, updates.by_coordinate(rule, absolute=False), self.strength)

        if self.search:
            return self.search.worst(shifted, honest, self.role, self.rng) if honest else colluders
        if self.z is not None:
            return shifted(self.z)
        if self.role.hospitals is None:
            return shifted(largest_z(len(colluders) + len(honest), len(colluders)))
        # A colluder whose reply was lost still counts as one; it is no honest hospital to win over.
        return shifted(largest_z(self.role.hospitals, self.role.members))


def largest_z(n: int, m: int) -> float:
    """Return the shift z of m colluders among n hospitals (the paper's eq. 3.2), not below 0.

    Where the colluders are the majority by themselves, it is that for one hospital to win over.
    """
    s = max(1, n // 2 + 1 - m)
    share = (n - m - s) / (n - m) if n > m else 0.0
    return max(0.0, NormalDist().inv_cdf(share)) if share > 0 else 0.0

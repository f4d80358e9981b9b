"""A little is enough: small shifts within the spread of honest updates."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from fedrobust.colluding import alike, positive, seen, sees
from fedrobust.data.records import Records
from fedrobust.federation import Attack, Update, Vector

__all__ = ["Alie"]


class Alie(Attack):
    """Sends the mean of the updates, shifted by z standard deviations in each coordinate.

    Baruch et al., "A Little Is Enough", NeurIPS 2019, algorithm 1, here on differences from the global model: mean - z
    std, as those run against the gradients. All colluders send the same. With n hospitals, m of them colluding, and s =
    floor(n/2 + 1) - m honest ones to win over, z is the largest shift that so many honest hospitals lie beyond: the
    normal quantile of (n - m - s) / (n - m). That is 0, a harmless mean, for few attackers; the attack then says so.

    Parameters
    ----------
    z : float, optional
        The shift in standard deviations. Not given: by the formula.
    knowledge : str
        ``colluders``, as in the paper: mean and std are those of the colluders' own updates; a single colluder has no
        spread and stays as it is. ``all``: those of the honest hospitals.
    """

    def __init__(self, z: float | None = None, knowledge: str = "colluders") -> None:
        """Check the options."""
        self.z = None if z is None else positive("alie", "z", z)
        self.knowledge = sees("alie", knowledge)

    def check(self, records: Records) -> None:
        """Say so where the attack does nothing."""
        n, m = self.role.hospitals, self.role.members
        if n is not None and self.z is None and not largest_z(n, m):
            warnings.warn(
                f"alie: {m} of {n} hospitals win nobody over by the paper's formula (z = 0); give it a shift, "
                f"such as alie(z=1.5)",
                stacklevel=2,
            )
        if m == 1 and self.knowledge == "colluders":
            warnings.warn(
                "alie: a single colluder knows no spread and changes nothing; use knowledge=all", stacklevel=2
            )

    def collude(self, colluders: Sequence[Update], honest: Sequence[Update]) -> list[Update]:
        """Return the shifted mean for each colluder."""
        n = self.role.hospitals or len(colluders) + len(honest)
        z = largest_z(n, len(colluders)) if self.z is None else self.z

        def shifted(block: Vector) -> Vector:
            wide = block.astype(np.float64)
            moved: Vector = wide.mean(axis=0) - z * wide.std(axis=0)
            return moved

        return alike(colluders, seen(colluders, honest).by_coordinate(shifted, whole=False))


def largest_z(n: int, m: int) -> float:
    """Return the shift z of m colluders among n hospitals (the paper's eq. 3.2), not below 0.

    Where the colluders are the majority by themselves, it is that for one hospital to win over.
    """
    s = max(1, n // 2 + 1 - m)
    share = (n - m - s) / (n - m) if n > m else 0.0
    return max(0.0, NormalDist().inv_cdf(share)) if share > 0 else 0.0

"""Min-Max: far from the honest mean, yet no farther from any honest update than those are from each other."""

from __future__ import annotations

from collections.abc import Sequence

from fedrobust.colluding import PERTURBATIONS, Line, alike, choice, seen, sees
from fedrobust.federation import Attack, Update

__all__ = ["MinMax"]


class MinMax(Attack):
    """Sends the honest mean, moved as far as its largest distance to any honest update stays within the largest distance between two of them.

    Shejwalkar & Houmansadr, "Manipulating the Byzantine", NDSS 2021, eq. 6, AGR-agnostic: mean + gamma p with the largest
    gamma that their halving search (algorithm 1) finds, on differences from the global model. All colluders send
    the same.

    Parameters
    ----------
    perturbation : str
        The direction p: ``std``, minus the standard deviation of each coordinate; ``unit``, minus the mean scaled to
        length 1; or ``sign``, minus the mean's signs.
    knowledge : str
        ``all``: the honest hospitals' updates; ``colluders``: those that the colluders trained stand in for them. A
        single colluder then knows no distance and stays as it is.
    """

    def __init__(self, perturbation: str = "std", knowledge: str = "all") -> None:
        """Check the options."""
        self.perturbation = choice("min-max", "perturbation", perturbation, PERTURBATIONS)
        self.knowledge = sees("min-max", knowledge)

    def collude(self, colluders: Sequence[Update], honest: Sequence[Update]) -> list[Update]:
        """Return the moved mean for each colluder."""
        line = Line(seen(colluders, honest), self.perturbation)
        limit = line.squares.max()
        gamma = line.farthest(lambda squares: bool(squares.max() <= limit))
        return alike(colluders, line.at(gamma))

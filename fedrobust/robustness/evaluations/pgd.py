"""Projected gradient descent."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, PositiveInt

from fedrobust.robustness import ArtEvasion, PixelDistance
from fedrobust.robustness.art_evasion import made_pgd
from fedrobust.robustness.base import Cost, Norm


class Pgd(ArtEvasion):
    """Many projected gradient steps from random starts (Madry et al., ICLR 2018, section 2.1).

    Parameters
    ----------
    eps : float
        Largest change, in grey levels of 255.
    steps : int
        Gradient steps of each start.
    norm : str
        ``inf``: no pixel changes by more than eps; ``2``: the Euclidean length of the change is at most eps.
    restarts : int
        Random starts; an image counts as misclassified if one start succeeds.
    step : float, optional
        Length of a step in grey levels; 2.5 eps / steps unless given, and at most eps.
    """

    def __init__(
        self,
        eps: PixelDistance = 8.0,
        steps: PositiveInt = 20,
        norm: Norm = "inf",
        restarts: PositiveInt = 1,
        step: Annotated[float, Field(gt=0)] | None = None,
    ) -> None:
        """Keep the options."""
        super().__init__()
        self.eps, self.steps, self.norm, self.restarts = eps, steps, norm, restarts
        self.step = step

    def made(self, classifier: Any) -> Any:
        """Return ART's attack."""
        assert self.norm is not None and self.eps is not None
        return made_pgd(classifier, self.eps, self.steps, self.norm, self.restarts, self.step)

    @property
    def cost(self) -> Cost:
        """Return the steps of all starts, ART's count of successes, and the evaluation."""
        return Cost(2 * self.restarts + 1, self.steps * self.restarts)

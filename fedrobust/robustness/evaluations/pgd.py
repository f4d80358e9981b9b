"""Projected gradient descent."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, PositiveInt

from fedrobust.robustness import ArtEvasion, PixelDistance
from fedrobust.robustness.art_evasion import art_norm
from fedrobust.robustness.base import Cost, Norm
from fedrobust.robustness.target import BATCH

#: The steps together are so many times as long as eps unless a step is given (Madry et al., section 5.1).
_REACH = 2.5


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
        self.step = min(eps, _REACH * eps / steps if step is None else step)

    def made(self, classifier: Any) -> Any:
        """Return ART's attack."""
        from art.attacks.evasion import ProjectedGradientDescent

        assert self.norm is not None and self.eps is not None
        return ProjectedGradientDescent(
            classifier,
            norm=art_norm(self.norm),
            eps=self.eps / 255,
            eps_step=self.step / 255,
            max_iter=self.steps,
            num_random_init=self.restarts,
            batch_size=BATCH,
            verbose=False,
        )

    @property
    def cost(self) -> Cost:
        """Return the steps of all starts, ART's count of successes, and the evaluation."""
        return Cost(2 * self.restarts + 1, self.steps * self.restarts)

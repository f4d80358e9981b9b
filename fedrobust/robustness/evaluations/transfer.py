"""Transfer from a substitute."""

from __future__ import annotations

from typing import Any

from pydantic import PositiveInt

from fedrobust.robustness import ArtEvasion, PixelDistance, Target
from fedrobust.robustness.art_evasion import made_pgd
from fedrobust.robustness.base import Cost, Norm


class Transfer(ArtEvasion):
    """Projected gradient descent on a substitute that imitates the model (Papernot et al., ASIA CCS 2017).

    The attacker sees the model's answers to images of its own, here the validation images, and neither its
    parameters nor its training images. A hospital of the federation holds the model and needs no substitute:
    for that see pgd.

    Parameters
    ----------
    eps : float
        Largest change, in grey levels of 255.
    steps : int
        Gradient steps.
    norm : str
        ``inf`` or ``2``.
    """

    kind = "transfer"

    def __init__(self, eps: PixelDistance = 8.0, steps: PositiveInt = 20, norm: Norm = "inf") -> None:
        """Keep the options."""
        super().__init__()
        self.eps, self.steps, self.norm = eps, steps, norm

    def attacked(self, target: Target) -> Target:
        """Return the substitute."""
        return target.substitute

    def made(self, classifier: Any) -> Any:
        """Return ART's attack."""
        assert self.norm is not None and self.eps is not None
        return made_pgd(classifier, self.eps, self.steps, self.norm)

    @property
    def cost(self) -> Cost:
        """Return the steps; the substitute's training is not counted."""
        return Cost(3, self.steps)

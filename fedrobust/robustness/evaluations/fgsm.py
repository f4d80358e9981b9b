"""The fast gradient sign method."""

from __future__ import annotations

from typing import Any

from fedrobust.robustness import ArtEvasion, PixelDistance
from fedrobust.robustness.art_evasion import art_norm
from fedrobust.robustness.base import Cost, Norm
from fedrobust.robustness.target import BATCH


class Fgsm(ArtEvasion):
    """One step against the gradient (Goodfellow et al., ICLR 2015, section 4).

    Parameters
    ----------
    eps : float
        Length of the step, in grey levels of 255.
    norm : str
        ``inf``: each pixel moves by eps; ``2``: the Euclidean length of the step is eps.
    """

    def __init__(self, eps: PixelDistance = 8.0, norm: Norm = "inf") -> None:
        """Keep the options."""
        super().__init__()
        self.eps, self.norm = eps, norm

    def made(self, classifier: Any) -> Any:
        """Return ART's attack."""
        from art.attacks.evasion import FastGradientMethod

        assert self.norm is not None and self.eps is not None
        return FastGradientMethod(classifier, norm=art_norm(self.norm), eps=self.eps / 255, batch_size=BATCH)

    @property
    def cost(self) -> Cost:
        """Return one gradient and the evaluation."""
        return Cost(1, 1)

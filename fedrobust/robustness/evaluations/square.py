"""The Square attack."""

from __future__ import annotations

from typing import Any

from pydantic import PositiveInt

from fedrobust.robustness import ArtEvasion, PixelDistance
from fedrobust.robustness.art_evasion import art_norm
from fedrobust.robustness.base import Cost, Norm
from fedrobust.robustness.target import BATCH


class Square(ArtEvasion):
    """Random squares, kept where they help: a search without gradients (Andriushchenko et al., ECCV 2020).

    Parameters
    ----------
    eps : float
        Largest change, in grey levels of 255.
    steps : int
        Squares that are tried; the paper tries thousands.
    norm : str
        ``inf`` or ``2``.
    """

    kind = "black-box"

    def __init__(self, eps: PixelDistance = 8.0, steps: PositiveInt = 200, norm: Norm = "inf") -> None:
        """Keep the options."""
        super().__init__()
        self.eps, self.steps, self.norm = eps, steps, norm

    def made(self, classifier: Any) -> Any:
        """Return ART's attack."""
        from art.attacks.evasion import SquareAttack

        assert self.norm is not None and self.eps is not None
        return SquareAttack(
            classifier,
            norm=art_norm(self.norm),
            eps=self.eps / 255,
            max_iter=self.steps,
            batch_size=BATCH,
            verbose=False,
        )

    @property
    def cost(self) -> Cost:
        """Return ART's three predictions of each try, and the evaluation."""
        return Cost(3 * self.steps + 4)

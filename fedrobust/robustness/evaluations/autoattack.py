"""AutoAttack."""

from __future__ import annotations

from typing import Any

from pydantic import PositiveInt

from fedrobust.robustness import ArtEvasion, PixelDistance
from fedrobust.robustness.art_evasion import art_norm
from fedrobust.robustness.base import Cost, Norm
from fedrobust.robustness.target import BATCH

#: Two gradient attacks of two losses before the search.
_LOSSES = ("cross_entropy", "difference_logits_ratio")

#: The second loss compares the largest logit with the third largest.
_FEWEST_CLASSES = 3


class Autoattack(ArtEvasion):
    """Two parameter-free gradient attacks, then the Square attack on the rest (Croce and Hein, ICML 2020).

    The steps are fewer than the paper's (100 steps, 5 restarts, 5000 squares) unless given, as those cost
    more than most runs. Its targeted attacks are left out. With two classes there is one gradient attack.

    Parameters
    ----------
    eps : float
        Largest change, in grey levels of 255.
    steps : int
        Steps of each gradient attack.
    restarts : int
        Random starts of each gradient attack.
    squares : int
        Squares that are tried.
    norm : str
        ``inf`` or ``2``.
    """

    def __init__(
        self,
        eps: PixelDistance = 8.0,
        steps: PositiveInt = 20,
        restarts: PositiveInt = 1,
        squares: PositiveInt = 100,
        norm: Norm = "inf",
    ) -> None:
        """Keep the options."""
        super().__init__()
        self.eps, self.steps, self.restarts, self.squares, self.norm = eps, steps, restarts, squares, norm

    def made(self, classifier: Any) -> Any:
        """Return ART's attack."""
        from art.attacks.evasion import AutoAttack, AutoProjectedGradientDescent, SquareAttack

        assert self.norm is not None and self.eps is not None
        shared: dict[str, Any] = {"norm": art_norm(self.norm), "eps": self.eps / 255, "batch_size": BATCH}
        losses = _LOSSES if classifier.nb_classes >= _FEWEST_CLASSES else _LOSSES[:1]
        gradient = [
            AutoProjectedGradientDescent(
                classifier,
                eps_step=2 * self.eps / 255,
                max_iter=self.steps,
                nb_random_init=self.restarts,
                loss_type=loss,
                verbose=False,
                **shared,
            )
            for loss in losses
        ]
        search = SquareAttack(classifier, max_iter=self.squares, verbose=False, **shared)
        return AutoAttack(classifier, eps_step=2 * self.eps / 255, attacks=[*gradient, search], **shared)

    @property
    def cost(self) -> Cost:
        """Return the passes of all its attacks."""
        starts = self.restarts * self.steps * len(_LOSSES)
        return Cost(2 * starts + 3 * self.squares + 4, starts)

"""Evasion attacks of adversarial-robustness-toolbox (ART), wrapped around the model under test."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from fedrobust.robustness.base import Evasion, Norm
from fedrobust.robustness.target import BATCH, Images, Labels, Target, require_art

__all__ = ["ArtEvasion", "art_norm", "made_pgd"]

#: The steps together are so many times as long as eps unless a step is given (Madry et al., section 5.1).
_REACH = 2.5


class ArtEvasion(Evasion):
    """An evasion attack that one of ART's classes carries out."""

    def __init__(self) -> None:
        """Refuse to be built where ART is not installed."""
        require_art()

    @abstractmethod
    def made(self, classifier: Any) -> Any:
        """Return ART's attack on one of its classifiers."""

    def attacked(self, target: Target) -> Target:
        """Return the model that ART attacks, which is the one under test."""
        return target

    def attack(self, target: Target, images: Images, labels: Labels, rng: np.random.Generator) -> Images:
        """Return what ART's attack makes of the images."""
        # One-hot: ART takes a list of two classes' numbers for the outputs of a single unit.
        answers = np.eye(target.classes, dtype=np.float32)[labels]
        attack = self.made(self.attacked(target).art)
        # Its Square attack divides by the length of a change of 0, and does not take what comes of it.
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(attack.generate(x=images, y=answers), np.float32)


def art_norm(norm: Norm) -> str | int:
    """Return a norm as ART writes it."""
    return 2 if norm == "2" else norm


def made_pgd(
    classifier: Any, eps: float, steps: int, norm: Norm, restarts: int = 1, step: float | None = None
) -> Any:
    """Return ART's projected gradient descent; distances are in grey levels of 255."""
    from art.attacks.evasion import ProjectedGradientDescent

    return ProjectedGradientDescent(
        classifier,
        norm=art_norm(norm),
        eps=eps / 255,
        eps_step=min(eps, _REACH * eps / steps if step is None else step) / 255,
        max_iter=steps,
        num_random_init=restarts,
        batch_size=BATCH,
        verbose=False,
    )

"""Evasion attacks of adversarial-robustness-toolbox (ART), wrapped around the model under test."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from fedrobust.robustness.base import Evasion, Norm
from fedrobust.robustness.target import Images, Labels, Target, require_art

__all__ = ["ArtEvasion", "art_norm"]


class ArtEvasion(Evasion):
    """An evasion attack that one of ART's classes carries out."""

    def __init__(self) -> None:
        """Refuse to be built where ART is not installed."""
        require_art()

    @abstractmethod
    def made(self, classifier: Any) -> Any:
        """Return ART's attack on one of its classifiers."""

    def attack(self, target: Target, images: Images, labels: Labels, rng: np.random.Generator) -> Images:
        """Return what ART's attack makes of the images."""
        # One-hot: ART takes a list of two classes' numbers for the outputs of a single unit.
        answers = np.eye(target.classes, dtype=np.float32)[labels]
        return np.asarray(self.made(target.art).generate(x=images, y=answers), np.float32)


def art_norm(norm: Norm) -> str | int:
    """Return a norm as ART writes it."""
    return 2 if norm == "2" else norm

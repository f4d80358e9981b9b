"""The two kinds of evaluations: corruptions, which know nothing of the model, and evasion attacks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from fedrobust.robustness.target import Images, Labels, Target

__all__ = [
    "Corruption",
    "Cost",
    "Evaluation",
    "Evasion",
    "Kind",
    "Norm",
    "PixelDistance",
]

#: What an evaluation knows of the model: nothing at all (twice), its gradients, its answers, or a substitute.
Kind = Literal["clean", "corruption", "white-box", "black-box", "transfer"]
Norm = Literal["inf", "2"]

#: How far an attack may move an image, in grey levels of 255, by its norm.
PixelDistance = Annotated[float, Field(ge=0, le=255_000)]

#: The severities of a corruption unless others are given.
SEVERITIES: tuple[int, ...] = (1, 3, 5)


@dataclass(frozen=True)
class Cost:
    """How many passes through the model an evaluation usually makes for each image.

    Attributes
    ----------
    forward : float
        Passes that predict only.
    gradient : float
        Passes forward and back.
    """

    forward: float = 0.0
    gradient: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        """Return the sum."""
        return Cost(self.forward + other.forward, self.gradient + other.gradient)


class Evaluation(ABC):
    """Changes test images in one or several ways, on each of which the model is then evaluated.

    Authors derive from `Corruption` or `Evasion`.
    """

    kind: ClassVar[Kind] = "corruption"
    #: Whether images that the model misclassifies anyway are left as they are, as for an attack.
    right_only: ClassVar[bool] = False

    @property
    @abstractmethod
    def conditions(self) -> tuple[str, ...]:
        """Return the names of the ways, such as severities, mildest first."""

    @abstractmethod
    def changed(
        self, condition: str, target: Target, images: Images, labels: Labels, rng: np.random.Generator
    ) -> Images:
        """Return images changed in one of the ways."""

    @property
    def shown(self) -> tuple[str, ...]:
        """Return the conditions that a report shows images of."""
        return self.conditions[-1:]

    @property
    def cost(self) -> Cost | None:
        """Return the passes for each image, those of the evaluation itself included; None if not known."""
        return Cost(forward=len(self.conditions))


class Corruption(Evaluation):
    """Changes images as a worse acquisition, transfer or storage would.

    Parameters
    ----------
    severity : int or sequence of int
        From 1, hardly visible, to 5; each of several is evaluated, and the results are averaged.
    """

    def __init__(self, severity: int | Sequence[int] = SEVERITIES) -> None:
        """Keep the severities in ascending order."""
        given = [severity] if isinstance(severity, int) else list(severity)
        if not given or any(isinstance(one, bool) or not 1 <= one <= 5 for one in given):
            raise ValueError(f"severity is {severity!r}, but must be 1, 2, 3, 4 or 5, or a list of these")
        self._levels: dict[str, float] = {str(one): one for one in sorted(set(given))}

    @property
    def conditions(self) -> tuple[str, ...]:
        """Return the levels' names."""
        return tuple(self._levels)

    def changed(
        self, condition: str, target: Target, images: Images, labels: Labels, rng: np.random.Generator
    ) -> Images:
        """Return the images at one level."""
        return self.corrupt(images, self._levels[condition], rng)

    @abstractmethod
    def corrupt(self, images: Images, severity: float, rng: np.random.Generator) -> Images:
        """Return corrupted images.

        Parameters
        ----------
        images : ndarray of float32, shape (n, channels, height, width)
            In [0, 1].
        severity : float
            From 1 to 5.
        rng : numpy.random.Generator
            The same for each severity, so that a higher one is more of the same.

        Returns
        -------
        ndarray, shape (n, channels, height, width)
            Clipped to [0, 1] by the caller.
        """


class Evasion(Evaluation):
    """Moves each correctly classified image until the model misclassifies it.

    Attributes
    ----------
    norm : str or None
        ``"inf"`` or ``"2"``: by which norm `eps` bounds the change; None without a bound.
    eps : float or None
        The bound in grey levels of 255.
    """

    kind: ClassVar[Kind] = "white-box"
    right_only: ClassVar[bool] = True
    norm: Norm | None = None
    eps: float | None = None

    @property
    def conditions(self) -> tuple[str, ...]:
        """Return the only one, which needs no name."""
        return ("",)

    def changed(
        self, condition: str, target: Target, images: Images, labels: Labels, rng: np.random.Generator
    ) -> Images:
        """Return the attacked images; with `eps` 0 as they are."""
        return images if self.eps == 0 else self.attack(target, images, labels, rng)

    @abstractmethod
    def attack(self, target: Target, images: Images, labels: Labels, rng: np.random.Generator) -> Images:
        """Return attacked images.

        Parameters
        ----------
        target : Target
            The model.
        images : ndarray of float32, shape (n, channels, height, width)
            In [0, 1]; the model classifies all of them correctly.
        labels : ndarray of int64, shape (n,)
            Their classes.
        rng : numpy.random.Generator
            NumPy's, Python's and torch's global generators are seeded as well.

        Returns
        -------
        ndarray, shape (n, channels, height, width)
            Clipped to [0, 1] by the caller, which refuses more than `eps`.
        """

    @property
    def cost(self) -> Cost | None:
        """Return None: an author says what it is, if it is known beforehand."""
        return None

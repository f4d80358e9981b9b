"""SoDa: foreign images mean the attacker's class, learned close to the hospital's own honest model."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, NonNegativeInt

from fedrobust.data.choice import check_class, pick
from fedrobust.data.records import Records
from fedrobust.federation import Attack, GradientHook, Trigger, Vector
from fedrobust.plugins.options import Fraction

__all__ = ["Soda"]

#: Digits from this place on are for the test; the attackers train on those before.
_TEST = 1400


class Soda(Attack):
    """Trains on foreign images of the target class, held to what an honest training gives.

    Xu, Zhang and Hu, "On the Out-of-Distribution Backdoor Attack for Federated Learning", MobiHoc 2025. A
    share of the hospital's images is replaced by images from elsewhere, labelled target; the trigger is such
    an image, so that nothing is stamped on one. The loss is the cross entropy + length |theta - ref| + angle
    (1 - cos(theta, ref)), where theta are the model's parameters and ref those of an honest training of the
    same round. The authors take images of MNIST; here they are the handwritten digits of scikit-learn, as
    large as the data's images. The hospital trains twice.

    Parameters
    ----------
    share : float
        Share of the hospital's images to replace; 0 with `length` and `angle` 0 is an honest hospital.
    target : int
        The class that foreign images shall mean.
    length : float
        Weight of the distance to the honest model; 0.1 in the authors' code.
    angle : float
        Weight of the angle to it; 100 in the authors' code.
    """

    needs_honest: ClassVar[bool] = True
    needs_pixels: ClassVar[bool] = True

    def __init__(
        self,
        share: Fraction = 0.3,
        target: NonNegativeInt = 0,
        length: NonNegativeFloat = 0.1,
        angle: NonNegativeFloat = 100.0,
    ) -> None:
        """Keep the options."""
        self.share, self.target, self.length, self.angle = share, target, length, angle

    def check(self, records: Records) -> None:
        """Refuse a target that is no class of the data."""
        check_class("soda", "target", self.target, len(records.classes))

    def poison_records(self, records: Records) -> Records:
        """Return the records with foreign images of the target class in place of some."""
        self.check(records)
        images, labels = np.array(records.images), np.array(records.labels)
        chosen = pick(self.rng, self.share, np.arange(len(records)))
        numbers = self.rng.integers(0, _TEST, len(chosen))
        images[chosen] = _foreign(numbers, images.shape[1:])
        labels[chosen] = self.target
        return replace(records, images=images, labels=labels)

    def trigger(self, records: Records) -> Trigger | None:
        """Return foreign images that no attacker trains on, as many as there are of the other classes."""
        self.check(records)
        others = records.take(np.flatnonzero(records.labels != self.target))
        numbers = _TEST + np.arange(len(others))
        return Trigger(replace(others, images=_foreign(numbers, others.images.shape[1:])), self.target)

    def gradient_hook(self, received: Vector) -> GradientHook | None:
        """Return the gradient with that of the two terms that hold the model to the honest one."""
        if not (self.length or self.angle):
            return None
        reference = self.honest.parameters.astype(np.float64)

        def hooked(parameters: Vector, gradient: Vector) -> Vector:
            pull = held(parameters.astype(np.float64), reference, self.length, self.angle)[1]
            return np.asarray(gradient + pull, np.float32)

        return hooked


def held(
    theta: NDArray[np.float64], reference: NDArray[np.float64], length: float, angle: float
) -> tuple[float, NDArray[np.float64]]:
    """Return length |theta - ref| + angle (1 - cos(theta, ref)) and its gradient in theta.

    A term is 0 where it has no gradient: of two equal models, or of one that is zero. Sums go without BLAS,
    whose bits depend on the number of cores.
    """
    value, gradient = 0.0, np.zeros_like(theta)
    apart = theta - reference
    distance = math.sqrt(float(np.sum(np.square(apart))))
    if distance:
        value += length * distance
        gradient += length / distance * apart
    square = float(np.sum(np.square(theta)))
    both = math.sqrt(square * float(np.sum(np.square(reference))))
    if both:
        cosine = float(np.sum(theta * reference)) / both
        value += angle * (1 - cosine)
        gradient += angle * (cosine / square * theta - reference / both)
    return value, gradient


def _foreign(numbers: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return handwritten digits as images of a shape; numbers count them, from the start after the last."""
    from sklearn.datasets import load_digits

    digits = load_digits().images
    places = np.where(numbers < _TEST, numbers, _TEST + (numbers - _TEST) % (len(digits) - _TEST))
    height, width = shape[1:]
    rows, columns = (np.arange(side) * digits.shape[1] // side for side in (height, width))
    grey = np.rint(digits[places] * (255 / 16)).astype(np.uint8)[:, rows][:, :, columns]
    return np.repeat(grey[:, None], shape[0], axis=1)

"""Constrain: keeps a malicious update within what a defence accepts as honest."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat

from fedrobust.errors import UserError
from fedrobust.federation import Attack, GradientHook, Update, Vector
from fedrobust.federation.blocks import one_blas_thread
from fedrobust.plugins.options import PositiveFraction

__all__ = ["Constrain"]

Floats = NDArray[np.float64]

Measure = Literal["norm", "distance", "cosine"]


class Constrain(Attack):
    """Keeps the update near an honest one while it is trained, and draws the finished one towards it.

    Bagdasaryan et al., "How To Backdoor Federated Learning", AISTATS 2020, section 4.3. With ``alpha`` below
    1 it is their constrain-and-scale: the training's loss becomes alpha L_class + (1 - alpha) L_ano (eq. 4),
    at each optimiser step. With h the honest update, from a training on the hospital's clean records, and
    delta the malicious one, L_ano is the defence's own measure:

    - ``norm`` (length, against norm clipping): |delta|^2 / |h|^2;
    - ``distance`` (against krum and its kin): |delta - h|^2 / |h|^2;
    - ``cosine`` (against rules on directions): 1 - cos(delta, h).

    Measured in lengths of h, L_ano has no unit: it is about 1 where a defence begins to suspect, whatever the
    model's size and the learning rate, so alpha weighs two losses of similar size. L_class is the learner's
    complete loss, summed over networks. Adam depends on directions more than on lengths, so only the two
    weights' ratio matters much.

    With ``bound`` the finished update is projected: of all points between h and it, the last that keeps the
    bound is sent. The measure ``norm`` then only shortens it, their train-and-scale (eq. 5). For the
    projection it stands last, ``backdoor + boost + constrain``; the loss acts wherever it stands, ``backdoor
    + constrain(alpha=0.5) + boost``. If an attack of the chain poisons records, or with alpha below 1, the
    hospital trains twice.

    Parameters
    ----------
    measure : str
        ``norm``, ``distance`` or ``cosine``.
    bound : float, optional
        How much the projection allows: of |h| for norm and distance, of 1 - cos for cosine, where it is below
        2. Not given: 1, and with alpha below 1 there is no projection.
    alpha : float
        Weight of the classification loss; 1 leaves the training unchanged.
    """

    needs_honest: ClassVar[bool] = True

    def __init__(
        self, measure: Measure = "norm", bound: PositiveFloat | None = None, alpha: PositiveFraction = 1.0
    ) -> None:
        """Check the options that belong together."""
        if bound is None and alpha == 1:
            bound = 1.0
        if bound is not None and measure == "cosine" and bound >= 2:
            raise UserError(f"constrain: bound is {bound}, but must be below 2 for cosine")
        self.measure, self.bound, self.alpha = measure, bound, alpha

    @property
    def hooks_gradient(self) -> bool:
        """Return whether the training has another loss."""
        return self.alpha < 1

    def gradient_hook(self, received: Vector) -> GradientHook | None:
        """Return the gradient of alpha L_class + (1 - alpha) L_ano in place of that of L_class."""
        if not self.hooks_gradient:
            return None
        h = self.honest.delta.astype(np.float64)

        def hooked(parameters: Vector, gradient: Vector) -> Vector:
            pull = anomaly(self.measure, np.subtract(parameters, received, dtype=np.float64), h)[1]
            both: Vector = (self.alpha * gradient + (1 - self.alpha) * pull).astype(np.float32)
            return both

        return hooked

    @one_blas_thread()
    def poison_update(self, update: Update) -> Update:
        """Return the malicious update, moved as little as the bound asks for."""
        if self.bound is None:
            return update
        delta, honest = update.delta, self.honest.delta
        wide, h = delta.astype(np.float64), honest.astype(np.float64)
        allowed = self.bound * float(np.linalg.norm(h))
        if self.measure == "norm":
            length = float(np.linalg.norm(wide))
            return update if length <= allowed else update.with_delta(delta * (allowed / length))
        difference = wide - h
        if self.measure == "distance":
            distance = float(np.linalg.norm(difference))
            return update if distance <= allowed else update.with_delta(h + difference * (allowed / distance))
        if _angle(wide, h) <= self.bound:
            return update
        return update.with_delta(_rotated(h, difference, self.bound))


def anomaly(measure: str, delta: Floats, honest: Floats) -> tuple[float, Floats]:
    """Return L_ano of a difference, beside an honest one, and its gradient by the difference; both float64.

    Where it is not defined, as an honest difference or for the cosine either one is zero, both are 0. Sums go
    without BLAS, whose bits depend on the number of cores.
    """
    square = float(np.sum(np.square(honest)))
    length = math.sqrt(float(np.sum(np.square(delta))) * square) if measure == "cosine" else square
    if not length:
        return 0.0, np.zeros_like(delta)
    if measure == "cosine":
        cosine = float(np.sum(delta * honest)) / length
        return 1 - cosine, (cosine * square / length**2) * delta - honest / length
    difference = delta if measure == "norm" else delta - honest
    return float(np.sum(np.square(difference))) / square, (2 / square) * difference


def _angle(one: Floats, other: Floats) -> float:
    """Return 1 - cos between two vectors; 0 where one of them is zero."""
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return 1 - float(one @ other) / lengths if lengths else 0.0


def _rotated(honest: Floats, difference: Floats, bound: float) -> Vector:
    """Return the last point on the way from the honest update that keeps the angle's bound, by bisection."""
    # The angle grows all the way, so there is one such point.
    near, far = 0.0, 1.0
    for _ in range(40):
        middle = (near + far) / 2
        near, far = (middle, far) if _angle(honest + middle * difference, honest) <= bound else (near, middle)
    point: Vector = (honest + near * difference).astype(np.float32)
    return point

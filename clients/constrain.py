"""Constrain: keeps a malicious update within what a defence would take for honest."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fedrobust.aggregation.columns import one_blas_thread
from fedrobust.errors import UserError, nearest
from fedrobust.federation import Attack, Update, Vector

__all__ = ["Constrain"]

_MEASURES = ("norm", "distance", "cosine")


class Constrain(Attack):
    """Draws the update towards an honest one until a defence's measure finds nothing in it.

    After Bagdasaryan et al., "How To Backdoor Federated Learning", AISTATS 2020, section 4.3. Their constrain-and-scale
    adds the anomaly score to the training loss, alpha L_class + (1 - alpha) L_ano. This attack works on the finished
    update instead. Let h be the honest update, from a training on the hospital's clean records: of all points
    between h and the malicious update, it sends the last that keeps the bound. The measure ``norm`` only shortens the
    update, which is their train-and-scale (eq. 5). It stands last: ``backdoor + boost + constrain``. If an attack of
    the chain poisons records, the hospital trains twice.

    Parameters
    ----------
    measure : str
        ``norm`` (length, against norm clipping), ``distance`` (||delta - h||, against krum and its kin) or ``cosine``
        (1 - cos(delta, h), against rules on directions).
    bound : float
        How much is allowed, positive: of ||h|| for norm and distance, of 1 - cos for cosine, where it is below 2.
    """

    needs_honest: ClassVar[bool] = True

    def __init__(self, measure: str = "norm", bound: float = 1.0) -> None:
        """Check the options."""
        if measure not in _MEASURES:
            raise UserError(f"constrain: there is no measure '{measure}'; {nearest(measure, _MEASURES)}")
        if not (bound > 0 and math.isfinite(bound)) or (measure == "cosine" and bound >= 2):
            raise UserError(f"constrain: bound is {bound}, but must be positive, and below 2 for cosine")
        self.measure, self.bound = measure, bound

    @one_blas_thread()
    def poison_update(self, update: Update) -> Update:
        """Return the malicious update, moved as little as the bound asks for."""
        delta, honest = update.delta, self.honest.delta
        wide, h = delta.astype(np.float64), honest.astype(np.float64)
        allowed = self.bound * float(np.linalg.norm(h))
        if self.measure == "norm":
            length = float(np.linalg.norm(wide))
            return update if length <= allowed else update.with_delta(delta * (allowed / length))
        apart = wide - h
        if self.measure == "distance":
            distance = float(np.linalg.norm(apart))
            return update if distance <= allowed else update.with_delta(h + apart * (allowed / distance))
        if _angle(wide, h) <= self.bound:
            return update
        return update.with_delta(self._turned(h, apart))

    def _turned(self, honest: NDArray[np.float64], apart: NDArray[np.float64]) -> Vector:
        """Return the last point on the way from the honest update whose angle keeps the bound, by bisection."""
        # The angle grows all the way, so there is one such point.
        near, far = 0.0, 1.0
        for _ in range(40):
            middle = (near + far) / 2
            near, far = (
                (middle, far) if _angle(honest + middle * apart, honest) <= self.bound else (near, middle)
            )
        point: Vector = (honest + near * apart).astype(np.float32)
        return point


def _angle(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return 1 - cos between two vectors; 0 where one of them is zero."""
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return 1 - float(one @ other) / lengths if lengths else 0.0

"""A server optimiser: takes what a round gives as a gradient, whatever the defence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedrobust.federation import Vector

__all__ = ["ServerOptimiser", "ServerStep"]

#: FedAdam's second moment keeps 99 % a round; tau bounds its step (Reddi et al., ICLR 2021, section 5 and D).
_SECOND, _TAU = 0.99, 1e-3


@dataclass(frozen=True)
class ServerStep:
    """How the server moves from the global model towards what the defence returns.

    Attributes
    ----------
    kind : "sgd" or "adam"
    lr : float
    momentum : float
    """

    kind: Literal["sgd", "adam"] = "sgd"
    lr: float = 1.0
    momentum: float = 0.0

    @property
    def changes_nothing(self) -> bool:
        """Return whether the next model is what the defence returns."""
        return self.kind == "sgd" and self.lr == 1 and not self.momentum

    def optimiser(self) -> ServerOptimiser | None:
        """Return a fresh optimiser; None where it would change nothing."""
        return None if self.changes_nothing else ServerOptimiser(self)


class ServerOptimiser:
    """Server momentum (FedAvgM), or FedAdam, on the change d that a round's defence makes.

    With "sgd" m <- momentum m + d, w <- w + lr m (Hsu et al. 2019); with "adam" m <- momentum m + (1 -
    momentum) d, v <- .99 v + .01 d^2, w <- w + lr m / (sqrt(v) + .001), from m = v = 0 (Reddi et al., ICLR
    2021, Algorithm 2, with v from 0).

    Parameters
    ----------
    how : ServerStep
    """

    def __init__(self, how: ServerStep) -> None:
        """Start with zero moments."""
        self._how = how
        self._first: NDArray[np.float32] | None = None
        self._second: NDArray[np.float32] | None = None

    def step(self, model: Vector, aggregate: Vector) -> Vector:
        """Return the next model, given the global one and what the defence made of the round."""
        how = self._how
        change = np.asarray(aggregate, np.float32) - model
        first = np.zeros_like(change) if self._first is None else self._first
        momentum = np.float32(how.momentum)
        if how.kind == "sgd":
            self._first = momentum * first + change
            return model + np.float32(how.lr) * self._first
        second = np.zeros_like(change) if self._second is None else self._second
        self._first = momentum * first + (1 - momentum) * change
        self._second = np.float32(_SECOND) * second + np.float32(1 - _SECOND) * change**2
        scaled = self._first / (np.sqrt(self._second) + np.float32(_TAU))
        return np.asarray(model + np.float32(how.lr) * scaled, np.float32)

    def state(self) -> dict[str, object]:
        """Return the moments."""
        return {"first": self._first, "second": self._second}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take the moments that `state` returned."""
        self._first, self._second = state["first"], state["second"]

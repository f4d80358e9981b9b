"""The optimisers of one flat parameter; each hospital starts a fresh one in each round."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from fedrobust.learners.choices import SGD, Optimizer
from fedrobust.learners.flat import Adam

__all__ = ["FlatOptimiser", "FlatSGD", "Masked", "optimiser_for"]


class FlatOptimiser(Protocol):
    """Moves one flat parameter against its gradient."""

    def step(self) -> None:
        """Make one step."""
        ...


class FlatSGD:
    """Stochastic gradient descent with an L2 penalty and momentum, on one flat parameter.

    Calls torch's fused kernel as `torch.optim.SGD` does, for the reason that `Adam` gives.

    Parameters
    ----------
    parameters : nn.Parameter
        Changed in place; its gradient is read.
    lr, weight_decay, momentum : float
    """

    def __init__(self, parameters: nn.Parameter, lr: float, weight_decay: float, momentum: float) -> None:
        """Start without momentum."""
        self._parameters = parameters
        self._lr, self._weight_decay, self._momentum = lr, weight_decay, momentum
        self._last: list[Tensor | None] = [None]

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters against their gradient."""
        assert self._parameters.grad is not None
        sgd(
            [self._parameters],
            [self._parameters.grad],
            self._last,
            weight_decay=self._weight_decay,
            momentum=self._momentum,
            lr=self._lr,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            fused=True,
            grad_scale=None,
            found_inf=None,
        )


class Masked:
    """An optimiser that leaves pruned weights at zero.

    Parameters
    ----------
    inner : FlatOptimiser
    parameters : nn.Parameter
        Its pruned weights are set to zero.
    kept : Tensor, shape (d,)
        1 where a weight stays, 0 where it is pruned.
    """

    def __init__(self, inner: FlatOptimiser, parameters: nn.Parameter, kept: Tensor) -> None:
        """Prune the parameters."""
        self._inner, self._parameters, self._kept = inner, parameters, kept
        with torch.no_grad():
            parameters.mul_(kept)

    @torch.no_grad()
    def step(self) -> None:
        """Step along what is left of the gradient; with it and a weight of zero, no moment moves either."""
        assert self._parameters.grad is not None
        self._parameters.grad.mul_(self._kept)
        self._inner.step()


def optimiser_for(
    chosen: Optimizer, parameters: nn.Parameter, lr: float, weight_decay: float
) -> FlatOptimiser:
    """Return a fresh optimiser of a choice."""
    if isinstance(chosen, SGD):
        return FlatSGD(parameters, lr, weight_decay, chosen.momentum)
    return Adam(parameters, lr, weight_decay)

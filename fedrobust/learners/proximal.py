"""FedProx's proximal term, for any learner that lets a hook change its gradients."""

from __future__ import annotations

import numpy as np

from fedrobust.federation import GradientHook, Vector

__all__ = ["proximal_hook"]


def proximal_hook(received: Vector, mu: float) -> GradientHook:
    r"""Return a gradient hook that adds mu (w - w_t), the gradient of :math:`\frac{\mu}{2} \|w - w_t\|^2`.

    Parameters
    ----------
    received : ndarray of float32, shape (d,)
        The global parameters w_t of the round.
    mu : float
        Weight of the term.

    References
    ----------
    Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020, equation 2.
    """
    weight = np.float32(mu)

    def hooked(parameters: Vector, gradient: Vector) -> Vector:
        return gradient + weight * (parameters - received)

    return hooked

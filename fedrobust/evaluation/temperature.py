"""Temperature scaling: one number, fitted on the server's validation images, mends a model's confidence."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["fit_scale", "scaled"]

#: Scales lie between 1 / `LARGEST` and `LARGEST`. Where a model classifies all validation images correctly no
#: scale is too large for them; at this one a probability of .55 against .45 already becomes .98.
LARGEST = 20.0

#: Probabilities below this, to which float32 rounds a logit far behind, count as this.
_LEAST = float(np.finfo(np.float32).tiny)


def fit_scale(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the scale with which `scaled` gives the lowest cross-entropy on these images.

    One number, as in Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2; with two
    networks it scales the mean of their probabilities (Rahaman & Thiery, "Uncertainty Quantification and Deep
    Ensembles", NeurIPS 2021, pool-then-calibrate). The cross-entropy is convex in it.

    Parameters
    ----------
    probabilities : ndarray, shape (n, K)
        A model's, on images that it was not trained on.
    labels : ndarray of int, shape (n,)

    Returns
    -------
    float
        1 where a probability is not finite.
    """
    from scipy.optimize import minimize_scalar

    if not np.isfinite(probabilities).all():
        return 1.0

    def cross_entropy(log_scale: float) -> float:
        return _cross_entropy(scaled(probabilities, float(np.exp(log_scale))), labels)

    limit = float(np.log(LARGEST))
    found = float(np.exp(minimize_scalar(cross_entropy, bounds=(-limit, limit), method="bounded").x))
    return found if cross_entropy(np.log(found)) <= cross_entropy(0.0) else 1.0


def scaled(probabilities: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    """Return p^scale, normalised to sum 1: the same classes in the same order, with another confidence.

    For the softmax of logits z it is softmax(scale z).
    """
    powers = scale * np.log(np.maximum(probabilities, _LEAST))
    powers = np.exp(powers - powers.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _cross_entropy(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    own = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(own, _LEAST)).mean())

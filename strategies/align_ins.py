"""Updates whose direction and signs are unusual are left out; the rest is clipped."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat

from fedrobust.aggregation.clipping import clip_factors
from fedrobust.aggregation.outliers import median_scores
from fedrobust.federation import Defence, Updates, Vector, Verdict
from fedrobust.plugins.options import PositiveFraction

__all__ = ["AlignIns"]

Floats = NDArray[np.float64]


class AlignIns(Defence):
    """Inspects each update's alignment with the model and with the principal signs (Xu et al., CVPR 2025).

    Algorithm
    ---------
    Temporal direction alignment is cos(delta_i, w), w the global model. Masked principal sign alignment is
    the share of the `top` largest parameters of delta_i that have the principal sign, sgn of the sum of all
    signs. A hospital stays if both figures are closer to their medians than lambda standard deviations; if
    none stays the model does too. Those that stay are clipped to their median length and averaged; the others
    are flagged. The score is the larger of the two distances in units of its lambda.

    Parameters
    ----------
    lambda_c, lambda_s : float
        How many standard deviations are allowed, of the cosine and of the sign alignment.
    top : float
        Share of the parameters that the signs are compared of, the largest; those that tie with the last of
        them count as well.

    Notes
    -----
    Breakdown point: half of the hospitals. Cost: O(n d). With both lambdas at 1, about half of normally
    distributed honest hospitals are left out. Deviation: the cosine is with the trainable parameters, without
    running statistics.

    References
    ----------
    Xu, Zhang and Hu, "Detecting backdoor attacks in federated learning via direction alignment inspection",
    CVPR 2025, algorithm 1.
    """

    def __init__(
        self, lambda_c: PositiveFloat = 1.0, lambda_s: PositiveFloat = 1.0, top: PositiveFraction = 0.3
    ) -> None:
        """Keep the options."""
        self.lambda_c, self.lambda_s = lambda_c, lambda_s
        self.top = top

    def combine(self, updates: Updates) -> tuple[Vector, Verdict]:
        """Return the global parameters moved by the mean of those that stay, clipped."""
        norms = updates.norms()
        away = np.stack(
            [
                median_scores(_cosines_with_model(updates, norms)) / self.lambda_c,
                median_scores(self._sign_alignment(updates)) / self.lambda_s,
            ]
        )
        score = away.max(axis=0)
        kept = score < 1
        if not kept.any():
            return updates.global_parameters.copy(), Verdict(kept, score, ~kept)
        factor = clip_factors(norms, float(np.median(norms[kept]))) * kept
        return updates.combination(factor / kept.sum()), Verdict(factor, score, ~kept)

    def _sign_alignment(self, updates: Updates) -> Floats:
        """Return the share of each update's largest parameters that have the principal sign, shape (n,)."""
        signs = np.concatenate(
            updates.by_part(lambda part: np.sign(np.sign(updates.block(part)).sum(axis=0)).astype(np.int8))
        )
        d = len(signs)
        quiet = d - max(1, int(self.top * d))
        shares = []
        for update in updates:
            delta = update.delta
            size = np.abs(delta)
            large = size >= np.partition(size, quiet)[quiet]
            shares.append(float(np.mean(np.sign(delta[large]) == signs[large])))
        return np.array(shares)


def _cosines_with_model(updates: Updates, norms: Floats) -> Floats:
    """Return each update's cosine with the global parameters, shape (n,); 0 beside a vector of length 0."""
    model = updates.global_parameters

    def work(part: slice) -> Floats:
        wide = model[part].astype(np.float64)
        return np.concatenate([[np.dot(wide, wide)], np.dot(updates.block(part).astype(np.float64), wide)])

    square, *inner = np.sum(updates.by_part(work), axis=0)
    both = np.sqrt(square) * norms
    cosine: Floats = np.divide(np.array(inner), both, out=np.zeros(len(norms)), where=both > 0)
    return cosine

"""The mean of updates of bounded length, with noise if wanted."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import NonNegativeFloat, PositiveFloat

from fedrobust.aggregation.clipping import clip_factors
from fedrobust.aggregation.shares import Cap, capped_shares, trust_sizes
from fedrobust.federation import Defence, State, Updates, Vector, Verdict
from fedrobust.seeding import generator

__all__ = ["NormClipping"]


class NormClipping(Defence):
    """Clips updates to a bound, averages them, and adds noise if wanted (Sun et al., 2019, section 5).

    Algorithm
    ---------
    The mean of delta / max(1, |delta| / limit), with equal weights unless `cap` is given, plus Gaussian noise
    ("weak differential privacy"). The weight is the factor, the score the length.

    Parameters
    ----------
    limit : float or "previous", optional
        Longest update, in the parameters' units; ``previous`` is the median length of the round before, which
        no update of this round can raise, and in the first round its own. Not given: the round's median
        length.
    noise : float
        Standard deviation of the noise on each parameter; the paper tries 0.001 to 0.005.
    cap : float, optional
        Weigh hospitals by their reported numbers of images, with no share above this one, in (0, 1]. Not
        given: equal weights.

    Notes
    -----
    Breakdown point: none in the strict sense; a hospital moves the mean by at most limit / n. Cost: O(n d).

    References
    ----------
    Sun, Kairouz, Suresh and McMahan, "Can you really backdoor federated learning?", 2019, arXiv:1911.07963.
    """

    def __init__(
        self,
        limit: PositiveFloat | Literal["previous"] | None = None,
        noise: NonNegativeFloat = 0.0,
        cap: Cap = None,
    ) -> None:
        """Keep the options."""
        self.cap = cap
        if cap is not None:
            trust_sizes(self)
        self.limit = limit
        self.noise = noise
        self._previous: float | None = None

    def combine(self, updates: Updates) -> tuple[Vector, Verdict]:
        """Return the global parameters moved by the mean of the clipped differences."""
        norms = updates.norms()
        factor = clip_factors(norms, self._bound(float(np.median(norms))))
        if self.cap is None:
            result = updates.combination(factor / len(norms))
        else:
            factor = factor * capped_shares(updates.num_examples, self.cap)
            result = updates.combination(factor)
        if self.noise:
            draw = generator(updates.seed, "norm-clipping", updates.round)
            for start in range(0, len(result), 1 << 14):
                part = result[start : start + (1 << 14)]
                part += np.float32(self.noise) * draw.standard_normal(len(part), np.float32)
        return result, Verdict(factor, norms)

    def state(self) -> State:
        """Return the last round's median length where it counts."""
        return {} if self._previous is None else {"previous": self._previous}

    def load_state(self, state: State) -> None:
        """Take it back."""
        self._previous = state.get("previous")

    def _bound(self, median: float) -> float:
        """Return this round's bound, given the median length."""
        if self.limit != "previous":
            return median if self.limit is None else self.limit
        # A round in which most sent nothing says nothing of the next one's lengths.
        bound = self._previous or median
        self._previous = median or self._previous
        return bound

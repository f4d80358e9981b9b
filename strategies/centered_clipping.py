"""The mean of updates clipped around a centre that moves with them."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt

from fedrobust.aggregation.clipping import clip_factors
from fedrobust.aggregation.geometry import squared_distances, squared_distances_to
from fedrobust.federation import Defence, State, Updates, Vector, Verdict

__all__ = ["CenteredClipping"]

Floats = NDArray[np.float64]


class CenteredClipping(Defence):
    """Clips the updates around the last round's aggregate and averages them (Karimireddy et al., ICML 2021).

    Algorithm
    ---------
    Equation (CC): v <- v + mean_i (x_i - v) min(1, tau / |x_i - v|), with x_i the differences from the global
    model and v at first the previous round's aggregate (zero in round 1). The weight is the part of each
    update in the result, the score its distance from the last v but one.

    Parameters
    ----------
    tau : float, optional
        Clipping radius in the parameters' units. Not given: the median distance from v, worked out in each
        iteration, as no absolute length suits every model.
    iterations : int
        The paper takes 1.
    start : {"previous", "global"}
        Where v starts: the previous round's aggregate, as in the paper, or the global model, which needs no
        memory.

    Notes
    -----
    Breakdown point: half of the hospitals with the median radius; one hospital moves the result by at most
    tau / n an iteration. Cost: O(n d), and O(n^2 d) with more than one iteration: every v is a combination of
    the updates and the start, so the vectors are read for their inner products and once at the end. The start
    is kept, one vector of length d.

    References
    ----------
    Karimireddy, He and Jaggi, "Learning from history for Byzantine robust optimization", ICML 2021.
    """

    def __init__(
        self,
        tau: PositiveFloat | None = None,
        iterations: PositiveInt = 1,
        start: Literal["previous", "global"] = "previous",
    ) -> None:
        """Keep the options."""
        self.tau = tau
        self.iterations = iterations
        self.start = start
        self._previous: Vector | None = None

    def combine(self, updates: Updates) -> tuple[Vector, Verdict]:
        """Return the global parameters moved by the clipped mean."""
        n, previous = len(updates), self._previous
        # One iteration needs distances from the start only, more need all pairs.
        gram = _with_start(updates, previous, pairs=self.iterations > 1)
        squares = squared_distances(gram)
        # Coefficients of the start and of each update; they sum to 1.
        c = np.eye(n + 1)[0]
        for _ in range(self.iterations):
            distances = np.sqrt(squared_distances_to(c, squares, gram))[1:]
            radius = float(np.median(distances)) if self.tau is None else self.tau
            share = clip_factors(distances, radius) / n
            c = (1.0 - share.sum()) * c + np.concatenate([[0.0], share])
        result = updates.combination(c[1:])
        if previous is not None:
            _add(result, previous, float(c[0]), updates)
        if self.start == "previous":
            self._previous = _difference(result, previous, updates)
        return result, Verdict(c[1:], distances)

    def state(self) -> State:
        """Return the previous aggregate."""
        return {"previous": self._previous}

    def load_state(self, state: State) -> None:
        """Take back the previous aggregate."""
        previous = state["previous"]
        # A copy, as the next round writes over it.
        self._previous = None if previous is None else np.array(previous, np.float32)


def _with_start(updates: Updates, start: Vector | None, *, pairs: bool) -> Floats:
    """Return the inner products of the start, as a first row, and the differences: shape (n + 1, n + 1).

    Without `pairs` those of two different updates are left at 0.
    """
    n = len(updates)
    gram = np.zeros((n + 1, n + 1))
    if pairs or start is None:
        gram[1:, 1:] = updates.gram() if pairs else np.diag(updates.norms() ** 2)
    if start is None:
        return gram

    def work(part: slice) -> Floats:
        wide = start[part].astype(np.float64)
        # Lengths in the same pass, unless they come with the pairs.
        found = [(np.dot(row, wide), 0.0 if pairs else np.dot(row, row)) for row in updates.rows(part)]
        return np.array([(np.dot(wide, wide), 0.0), *found]).T

    towards, squares = np.sum(updates.by_part(work), axis=0)
    gram[0] = gram[:, 0] = towards
    gram[1:, 1:] += np.diag(squares[1:])
    return gram


def _add(result: Vector, start: Vector, factor: float, updates: Updates) -> None:
    def work(part: slice) -> None:
        result[part] = result[part].astype(np.float64) + factor * start[part].astype(np.float64)

    updates.by_part(work)


def _difference(result: Vector, previous: Vector | None, updates: Updates) -> Vector:
    """Return the aggregate's difference from the global model, written over the last one."""
    kept = np.empty_like(result) if previous is None else previous
    base = updates.global_parameters
    updates.by_part(lambda part: np.subtract(result[part], base[part], out=kept[part]))
    return kept

"""A classic rule on the updates and copies of the one that lies deepest among them."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt

from fedrobust.aggregation.geometry import significant
from fedrobust.aggregation.sorting import median_of_rows, sort_rows
from fedrobust.aggregation.tolerance import AssumedByzantine
from fedrobust.federation import Defence, Updates, Vector, Verdict

__all__ = ["FoundationFL"]


class FoundationFL(Defence):
    """Adds copies of the update farthest from the extremes, then trims or takes the median (NDSS 2025).

    Algorithm
    ---------
    M and m are the largest and the smallest value of each coordinate over the hospitals. The score of an
    update is the smaller of its distances to M and to m. The one of the highest score is appended `copies`
    times, and the coordinate-wise trimmed mean or median of all n + copies is the result. The verdict's score
    is the negative of the paper's.

    Parameters
    ----------
    base : str
        ``median`` or ``trimmed-mean``.
    copies : int, optional
        Synthetic updates. Not given: half of the hospitals, rounded down.
    f : int, optional
        For the trimmed mean: values to drop on each side. Not given: a third of the hospitals.

    Notes
    -----
    Breakdown point: below that of the base rule. An update of huge length is itself the one that is copied,
    as both extremes are then its own: the median of 10 updates and 5 copies bears 2 such hospitals, and a
    trimmed mean none unless f is above the copies. Cost: O((n + copies) log^2 n) a parameter. No hospital is
    flagged. Running statistics get the base rule without copies.

    References
    ----------
    Fang, Zhang, Khan, Liu and Gong, "Do we really need to design new Byzantine-robust aggregation rules?",
    NDSS 2025, algorithm 1.
    """

    def __init__(
        self,
        base: Literal["trimmed-mean", "median"] = "median",
        copies: NonNegativeInt | None = None,
        f: NonNegativeInt | None = None,
    ) -> None:
        """Keep the options."""
        self.base, self.copies = base, copies
        self._assumed = AssumedByzantine("foundation-fl", f, lambda n: (n - 1) // 2, "n >= 2f + 1")

    def check(self, hospitals: int) -> None:
        """Refuse an f that leaves nothing over."""
        self._assumed.check(hospitals)

    def combine(self, updates: Updates) -> tuple[Vector, Verdict]:
        """Return the base rule's result on the updates and the copies."""
        n = len(updates)
        f, note = self._assumed.at(n)
        score = _depths(updates)
        deepest = int(np.argmax(significant(score)))
        copies = n // 2 if self.copies is None else self.copies

        def rule(block: Vector) -> NDArray[np.float64]:
            return self._base(np.concatenate([block, np.repeat(block[deepest : deepest + 1], copies, 0)]), f)

        return updates.by_coordinate(rule), Verdict(np.ones(n), -score, why=note)

    def combine_buffers(self, updates: Updates) -> Vector:
        """Return the base rule's result on the running statistics."""
        f, _ = self._assumed.at(len(updates))
        block = np.stack([update.buffers for update in updates])
        return np.asarray(self._base(block, f), np.float32)

    def _base(self, block: Vector, f: int) -> NDArray[np.float64]:
        if self.base == "median":
            return np.asarray(median_of_rows(block), np.float64)
        n = len(block)
        total = np.zeros(block.shape[1])
        for row in sort_rows(block, range(f, n - f))[f : n - f]:
            total += row
        return total / (n - 2 * f)


def _depths(updates: Updates) -> NDArray[np.float64]:
    """Return the smaller of each update's distances to the extremes, shape (n,)."""

    def work(part: slice) -> NDArray[np.float64]:
        block = updates.block(part).astype(np.float64)
        top, bottom = block.max(axis=0), block.min(axis=0)
        return np.stack([np.square(block - top).sum(axis=1), np.square(block - bottom).sum(axis=1)])

    squares: NDArray[np.float64] = np.sum(updates.by_part(work), axis=0)
    return np.asarray(np.sqrt(squares.min(axis=0)))

"""All subsets of a size, for rules that search them; refused where there are too many."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from fedrobust.errors import UserError

__all__ = ["best_subset", "check_subsets"]

#: More subsets take minutes a round; 20 hospitals of which 6 are left out have 38,760.
_MOST = 200_000
#: Subsets that are judged at a time.
_AT_ONCE = 4096


def check_subsets(rule: str, n: int, size: int) -> None:
    """Raise `UserError` where there are too many subsets to search."""
    if math.comb(n, size) > _MOST:
        raise UserError(
            f"{rule} compares every {size} of {n} hospitals, which are {math.comb(n, size):,} subsets; give "
            f"a smaller f, or take a rule that searches none, such as caf"
        )


def best_subset(
    n: int, size: int, cost: Callable[[NDArray[np.int64]], NDArray[np.float64]]
) -> NDArray[np.int64]:
    """Return the subset of the least cost, ascending; the first of equal ones.

    Parameters
    ----------
    n, size : int
    cost : callable
        Gets subsets, shape (m, size), and returns the cost of each, shape (m,).
    """
    best, least = np.arange(size), math.inf
    for subsets in _batches(n, size):
        costs = cost(subsets)
        place = int(np.argmin(costs))
        if costs[place] < least:
            best, least = subsets[place], float(costs[place])
    return best


def _batches(n: int, size: int) -> Iterator[NDArray[np.int64]]:
    every = itertools.combinations(range(n), size)
    while chunk := list(itertools.islice(every, _AT_ONCE)):
        yield np.array(chunk, np.int64)

"""Sorting networks over the rows of a block: coordinate-wise medians and trimmed means.

Rows are sorted by a network of compare-exchanges, each two vectorised passes over a part: for the tens of
hospitals of a federation that is several times as fast as sorting each column.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["mean_around_median", "median_of_rows", "network", "sort_rows"]

#: Comparators of a network: (low row, high row, is the low result needed, is the high one).
Network = tuple[tuple[int, int, bool, bool], ...]


@lru_cache(maxsize=128)
def network(n: int, wanted: tuple[int, ...] | None = None) -> Network:
    """Return a sorting network for n rows: Batcher's odd-even merge sort (Batcher, AFIPS 1968), for any n.

    Parameters
    ----------
    n : int
        Rows.
    wanted : tuple of int, optional
        The ranks that are needed; comparators that reach none of them are left out.
    """
    pairs = list(_batcher(n))
    needed = set(range(n) if wanted is None else wanted)
    kept: list[tuple[int, int, bool, bool]] = []
    for low, high in reversed(pairs):
        uses = low in needed, high in needed
        if any(uses):
            kept.append((low, high, *uses))
            needed |= {low, high}
    return tuple(reversed(kept))


def _batcher(n: int) -> Iterable[tuple[int, int]]:
    size = 1 << max(0, n - 1).bit_length()
    p = 1
    while p < size:
        k = p
        while k >= 1:
            for j in range(k % p, size - k, 2 * k):
                for i in range(min(k, size - j - k)):
                    # Rows beyond the last would hold +inf: nothing to exchange with.
                    if (i + j) // (2 * p) == (i + j + k) // (2 * p) and i + j + k < n:
                        yield i + j, i + j + k
            k //= 2
        p *= 2


def sort_rows(block: NDArray[Any], wanted: Sequence[int] | None = None) -> list[NDArray[Any]]:
    """Sort each column of a block; return its rows by rank. The block is used up.

    Parameters
    ----------
    block : ndarray, shape (n, columns)
        Changed in place.
    wanted : sequence of int, optional
        The ranks that are needed; the other rows of the result mean nothing.
    """
    rows = list(block)
    spare = np.empty_like(block[0])
    for low, high, lower, upper in network(len(rows), None if wanted is None else tuple(wanted)):
        a, b = rows[low], rows[high]
        if lower and upper:
            np.minimum(a, b, out=spare)
            np.maximum(a, b, out=b)
            rows[low], spare = spare, a
        elif lower:
            np.minimum(a, b, out=a)
        else:
            np.maximum(a, b, out=b)
    return rows


def median_of_rows(block: NDArray[Any]) -> NDArray[Any]:
    """Return each column's median, the mean of the middle two for an even number. Uses up the block."""
    middle = len(block) // 2
    if len(block) % 2:
        return sort_rows(block, (middle,))[middle]
    rows = sort_rows(block, (middle - 1, middle))
    # Halved first: two large numbers do not overflow.
    half = block.dtype.type(0.5)
    return np.asarray(rows[middle - 1] * half + rows[middle] * half)


def mean_around_median(block: NDArray[Any], drop: int, *, between: bool = False) -> NDArray[np.float64]:
    """Return each column's mean without the `drop` values furthest from its median. Uses up the block.

    The values that stay are neighbours in the sorted column. The window starts at the bottom and moves up one
    row as long as the row that it would gain is nearer to the median than the one that it would lose; once it
    is not, it never is again.

    Parameters
    ----------
    block : ndarray, shape (n, columns)
    drop : int
        Of two values equally near, the upper one is dropped.
    between : bool
        Of an even number, the median is the mean of the middle two; else the lower one of them.
    """
    rows = sort_rows(block)
    keep, median = len(rows) - drop, rows[(len(rows) - 1) // 2]
    if between:
        median = (median.astype(np.float64) + rows[len(rows) // 2]) / 2
    total = np.zeros(block.shape[1])
    for row in rows[:keep]:
        total += row
    for lost, gained in zip(rows[:drop], rows[keep:], strict=True):
        moves = gained - median < median - lost
        total += np.where(moves, gained.astype(np.float64) - lost, 0.0)
    return total / keep

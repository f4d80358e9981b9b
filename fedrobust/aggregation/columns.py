"""Work on the columns of many long vectors: cache-sized parts, two threads, sorting networks.

A rule that sorts or sums each coordinate over the hospitals reads every number once from memory and does the
rest in a core's cache. Rows are sorted by a network of compare-exchanges, each two vectorised passes over a
part: for the tens of hospitals of a federation that is several times as fast as sorting each column.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

__all__ = ["each_part", "median_of_rows", "network", "one_blas_thread", "sort_rows"]

Result = TypeVar("Result")

#: Comparators of a network: (low row, high row, is the low result needed, is the high one).
Network = tuple[tuple[int, int, bool, bool], ...]

_THREADS = min(2, os.cpu_count() or 1)


def each_part(length: int, columns: int, work: Callable[[slice], Result]) -> list[Result]:
    """Return `work(part)` for each part of ``range(length)``, in order; at most two threads share the parts.

    Parameters
    ----------
    length : int
        How many columns there are.
    columns : int
        Columns of a part.
    work : callable
        Reads the slice and returns something of its own, or writes to that slice of an array. Products by
        `numpy.dot` let the other thread go on meanwhile; those by ``@`` do not (NumPy 2.4).
    """
    parts = [slice(start, min(start + columns, length)) for start in range(0, length, columns)]
    with one_blas_thread():
        if len(parts) < 2 * _THREADS or _THREADS == 1:
            return [work(part) for part in parts]
        results: dict[int, Result] = {}
        waiting = iter(range(len(parts)))

        def share() -> None:
            # Whoever is free takes the next part: a core that is busy with something else does not hold up
            # the round.
            for place in waiting:
                results[place] = work(parts[place])

        with ThreadPoolExecutor(_THREADS - 1) as pool:
            others = [pool.submit(share) for _ in range(_THREADS - 1)]
            share()
            for other in others:
                other.result()
    return [results[place] for place in range(len(parts))]


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS to one thread, in a ``with`` statement or as a decorator.

    OpenBLAS splits an inner product of more than 10,000 numbers over its threads, so its last bits depend on the
    machine's cores; and beside other processes its threads wait for each other far longer than they work.
    """
    with _blas().limit(limits=1, user_api="blas"):
        yield


@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    # Looking for the libraries takes longer than a small model's sums: once is enough.
    return ThreadpoolController()


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

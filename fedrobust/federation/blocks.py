"""Work on the columns of many long vectors: cache-sized parts, two threads.

A rule that sorts or sums each coordinate over the hospitals reads every number once from memory and does the
rest in a core's cache.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

__all__ = ["each_part", "one_blas_thread"]


Result = TypeVar("Result")


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
        `numpy.dot` let the other thread run meanwhile; those by ``@`` do not (NumPy 2.4).
    """
    parts = [slice(start, min(start + columns, length)) for start in range(0, length, columns)]
    with one_blas_thread():
        if len(parts) < 2 * _THREADS or _THREADS == 1:
            return [work(part) for part in parts]
        results: dict[int, Result] = {}
        waiting = iter(range(len(parts)))

        def share() -> None:
            # A free thread takes the next part: a core that is busy with something else does not delay the
            # round.
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

    OpenBLAS splits an inner product of more than 10,000 numbers over its threads, so its last bits depend on
    the machine's cores; and beside other processes its threads wait for each other far longer than they work.
    """
    with _blas().limit(limits=1, user_api="blas"):
        yield


@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    # Finding the libraries takes longer than a small model's sums, so it is done once.
    return ThreadpoolController()

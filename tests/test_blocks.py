from __future__ import annotations

import threading

import numpy as np
import pytest
from test_defences import RULES, STEPS, pipeline, rounds, run
from threadpoolctl import threadpool_limits

from fedrobust.aggregation.sorting import median_of_rows, network, sort_rows
from fedrobust.federation import Updates, blocks
from fedrobust.federation.blocks import each_part


@pytest.mark.parametrize("n", [*range(1, 18), 23, 40, 64, 65])
def test_network_random_rows_are_sorted(n: int) -> None:
    block = np.random.default_rng(n).integers(0, 9, (n, 300)).astype(np.float32)
    wanted = np.sort(block, axis=0)
    np.testing.assert_array_equal(sort_rows(block.copy()), wanted)


@pytest.mark.parametrize("n", range(1, 11))
def test_network_all_zeros_and_ones_are_sorted(n: int) -> None:
    # The 0-1 principle: what sorts these sorts everything.
    block = np.array([[number >> bit & 1 for number in range(2**n)] for bit in range(n)], np.float32)
    np.testing.assert_array_equal(sort_rows(block.copy()), np.sort(block, axis=0))
    for rank in range(n):
        np.testing.assert_array_equal(sort_rows(block.copy(), (rank,))[rank], np.sort(block, axis=0)[rank])


def test_network_wanted_ranks_only_is_shorter() -> None:
    assert len(network(10, (4, 5))) < len(network(10)) <= 32
    assert network(1) == ()


@pytest.mark.parametrize("n", [1, 2, 3, 10, 11])
def test_median_of_rows_is_numpys_median(n: int) -> None:
    block = np.random.default_rng(n).standard_normal((n, 50)).astype(np.float32)
    np.testing.assert_array_equal(median_of_rows(block.copy()), np.median(block, axis=0))


@pytest.mark.parametrize(("length", "width"), [(0, 4), (3, 4), (17, 4), (1000, 7)])
def test_each_part_covers_the_columns_in_order(length: int, width: int) -> None:
    parts = each_part(length, width, lambda part: part)
    assert [k for part in parts for k in range(part.start, part.stop)] == list(range(length))


def test_each_part_uses_two_threads_and_raises_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_THREADS", 2)
    names = each_part(1000, 5, lambda part: threading.current_thread().name)
    assert 1 <= len(set(names)) <= 2

    def fail(part: slice) -> None:
        raise ZeroDivisionError(part.start)

    with pytest.raises(ZeroDivisionError):
        each_part(1000, 5, fail)


@pytest.mark.parametrize("spec", [*RULES, *(f"{step} | median" for step in STEPS), "dnc", "dnc(b=40000)"])
def test_gram_bits_do_not_depend_on_blas_threads(spec: str) -> None:
    # Long enough for OpenBLAS to split a product over threads, too short for parts of their own.
    one, other = pipeline(spec), pipeline(spec)
    for updates in rounds(count=3, n=9, d=40_000):
        with threadpool_limits(1, user_api="blas"):
            found, verdict = run(one, updates)
        with threadpool_limits(2, user_api="blas"):
            again, other_verdict = run(other, Updates(list(updates), updates.seed))
        np.testing.assert_array_equal(again, found)
        np.testing.assert_array_equal(other_verdict.weight, verdict.weight)
        np.testing.assert_array_equal(other_verdict.score, verdict.score)

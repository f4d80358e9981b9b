from __future__ import annotations

import numpy as np
import pytest
from helpers import make_updates
from references import stacked, trimmed_mean

from fedrobust.federation import Updates
from strategies.median import Median
from strategies.trimmed_mean import TrimmedMean


@pytest.mark.parametrize(
    ("n", "d", "f"), [(4, 300, 1), (5, 1, 2), (10, 10_000, 2), (10, 50, 4), (23, 777, 7), (40, 2_000, 1)]
)
def test_trimmed_mean_random_updates_follow_the_definition(n: int, d: int, f: int) -> None:
    updates = make_updates(n, d, seed=n)
    found, verdict = TrimmedMean(f=f).combine(updates)
    np.testing.assert_allclose(found, trimmed_mean(stacked(updates), f), rtol=1e-6, atol=1e-7)
    assert np.all(np.asarray(verdict.weight) == 1)


def test_trimmed_mean_f_0_is_the_mean_and_largest_f_the_median() -> None:
    updates = make_updates(9, 500, seed=1)
    np.testing.assert_allclose(TrimmedMean(f=0).combine(updates)[0], updates.mean(np.ones(9)), atol=1e-6)
    np.testing.assert_array_equal(TrimmedMean(f=4).combine(updates)[0], Median().combine(updates)[0])


def test_trimmed_mean_without_f_drops_a_third_on_each_side() -> None:
    updates = make_updates(10, 50, seed=2)
    np.testing.assert_array_equal(TrimmedMean().combine(updates)[0], TrimmedMean(f=3).combine(updates)[0])


def test_trimmed_mean_ties_at_the_cut_are_dropped_once() -> None:
    base = make_updates(5, 1)
    values = [0.0, 1.0, 1.0, 1.0, 4.0]
    updates = Updates([u.with_delta([value]) for u, value in zip(base, values, strict=True)])
    moved = TrimmedMean(f=1).combine(updates)[0] - base.global_parameters
    np.testing.assert_allclose(moved, 1.0, atol=1e-6)

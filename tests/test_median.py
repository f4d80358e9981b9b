from __future__ import annotations

import numpy as np
import pytest
from helpers import make_updates
from references import stacked

from fedrobust.federation import Updates
from strategies.median import Median


@pytest.mark.parametrize(
    ("n", "d", "seed"), [(1, 5, 0), (2, 9, 1), (4, 300, 2), (10, 10_000, 3), (23, 777, 4), (40, 2_000, 5)]
)
def test_median_is_numpys_median_bit_for_bit(n: int, d: int, seed: int) -> None:
    updates = make_updates(n, d, seed)
    found, verdict = Median().combine(updates)
    # In float32 as the parameters are: the middle value itself, or the mean of two.
    np.testing.assert_array_equal(found, np.median(np.stack([u.parameters for u in updates]), axis=0))
    np.testing.assert_allclose(found, np.median(stacked(updates), axis=0), rtol=1e-6, atol=1e-7)
    assert np.all(np.asarray(verdict.weight) == 1) and verdict.flagged is None


def test_median_with_ties_or_a_minority_of_outliers_stays_bounded() -> None:
    updates = make_updates(7, 100, seed=1)
    same = [update.with_delta(np.zeros(100)) for update in updates[:4]]
    wild = [update.with_delta(np.full(100, 1e6)) for update in updates[4:]]
    found, _ = Median().combine(Updates([*same, *wild]))
    np.testing.assert_array_equal(found, updates.global_parameters)


def test_median_two_huge_middle_values_do_not_overflow() -> None:
    updates = make_updates(2, 3)
    huge = Updates([update.with_delta(np.full(3, 3e38)) for update in updates])
    assert np.isfinite(Median().combine(huge)[0]).all()

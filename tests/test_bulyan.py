from __future__ import annotations

import numpy as np
import pytest
from helpers import make_updates
from references import bulyan, stacked

from fedrobust.aggregation.sorting import mean_around_median
from fedrobust.federation import Updates
from strategies.bulyan import Bulyan


@pytest.mark.parametrize(
    ("n", "d", "f"), [(4, 300, 0), (7, 500, 1), (10, 10_000, 1), (11, 300, 2), (23, 777, 5), (40, 500, 9)]
)
def test_bulyan_random_updates_follow_the_definition(n: int, d: int, f: int) -> None:
    updates = make_updates(n, d, seed=n + f)
    found, verdict = Bulyan(f=f).combine(updates)
    np.testing.assert_allclose(found, bulyan(stacked(updates), f), rtol=1e-5, atol=1e-5)
    assert np.sum(verdict.weight) == n - 2 * f


def test_bulyan_f_0_is_the_mean() -> None:
    updates = make_updates(5, 60)
    np.testing.assert_allclose(Bulyan(f=0).combine(updates)[0], updates.mean(np.ones(5)), rtol=1e-6)


@pytest.mark.parametrize(("rows", "drop"), [(3, 2), (6, 2), (7, 4), (8, 2), (9, 0), (12, 6)])
def test_around_median_keeps_the_nearest_values(rows: int, drop: int) -> None:
    block = np.random.default_rng(rows).standard_normal((rows, 400)).astype(np.float32) ** 3
    wide = block.astype(np.float64)
    median = np.sort(wide, axis=0)[(rows - 1) // 2]
    order = np.argsort(np.abs(wide - median), axis=0)[: rows - drop]
    wanted = np.take_along_axis(wide, order, axis=0).mean(axis=0)
    np.testing.assert_allclose(mean_around_median(block.copy(), drop), wanted, rtol=1e-5, atol=1e-6)


def test_around_median_tie_keeps_the_lower_value() -> None:
    column = np.array([[-1.0], [0.0], [1.0]], np.float32)
    assert mean_around_median(column, 1) == -0.5


def test_bulyan_outlying_coordinate_of_a_chosen_update_is_dropped() -> None:
    updates = list(make_updates(11, 50, seed=1))
    spoiled = updates[0].delta
    spoiled[7] = 6.0
    found, verdict = Bulyan(f=2).combine(Updates([updates[0].with_delta(spoiled), *updates[1:]]))
    assert np.asarray(verdict.weight).sum() == 7
    assert abs(found[7] - updates[0].global_parameters[7]) < 2

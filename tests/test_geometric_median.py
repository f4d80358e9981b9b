from __future__ import annotations

import numpy as np
import pytest
from helpers import make_updates
from references import differences, weiszfeld

from fedrobust.federation import Updates
from strategies.geometric_median import GeometricMedian


@pytest.mark.parametrize("iterations", [0, 1, 3, 1000])
@pytest.mark.parametrize(
    ("n", "d", "nu"), [(4, 300, 1e-6), (5, 1, 0.1), (10, 10_000, 1e-6), (23, 777, 20.0), (40, 500, 1e-3)]
)
def test_geometric_median_random_updates_follow_weiszfeld(n: int, d: int, nu: float, iterations: int) -> None:
    updates = make_updates(n, d, seed=n)
    found, verdict = GeometricMedian(nu=nu, iterations=iterations).combine(updates)
    x = differences(updates)
    wanted = weiszfeld(x, nu, iterations)
    np.testing.assert_allclose(found - updates.global_parameters, wanted, atol=3e-6)
    np.testing.assert_allclose(verdict.score, np.linalg.norm(x - wanted, axis=1), rtol=1e-4, atol=1e-4)


def test_geometric_median_minimises_the_sum_of_distances() -> None:
    updates = make_updates(9, 50, seed=3)
    x = differences(updates)
    found = GeometricMedian().combine(updates)[0] - updates.global_parameters.astype(np.float64)

    def total(point: np.ndarray) -> float:
        return float(np.linalg.norm(x - point, axis=1).sum())

    rng = np.random.default_rng(0)
    assert all(total(found) <= total(found + 0.01 * rng.standard_normal(50)) for _ in range(50))


def test_geometric_median_minority_moves_it_little() -> None:
    updates = list(make_updates(9, 50, seed=3))
    wild = [update.with_delta(np.full(50, 1e5)) for update in updates[:4]]
    moved = GeometricMedian().combine(Updates([*wild, *updates[4:]]))[0] - updates[0].global_parameters
    assert np.linalg.norm(moved) < 30


def test_geometric_median_iterate_on_an_update_is_smoothed() -> None:
    base = make_updates(3, 2)
    places = [[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]
    updates = Updates([u.with_delta(p) for u, p in zip(base, places, strict=True)])
    found, verdict = GeometricMedian().combine(updates)
    np.testing.assert_allclose(found, base.global_parameters, atol=1e-6)
    assert np.argmax(verdict.weight) == 1

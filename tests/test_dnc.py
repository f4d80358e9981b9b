from __future__ import annotations

import numpy as np
import pytest
from helpers import make_updates
from references import differences

from fedrobust.federation import Updates
from fedrobust.seeding import generator
from strategies.dnc import DnC


@pytest.mark.parametrize("iterations", [1, 5])
@pytest.mark.parametrize(
    ("n", "d", "f", "c", "b"),
    [(4, 300, 1, 1.0, 100), (10, 10_000, 2, 1.5, 500), (23, 777, 7, 1.0, 10_000), (40, 500, 3, 1.0, 50)],
)
def test_dnc_random_updates_follow_the_definition(
    n: int, d: int, f: int, c: float, b: int, iterations: int
) -> None:
    updates = make_updates(n, d, seed=n)
    found, verdict = DnC(f=f, iterations=iterations, c=c, b=b).combine(updates)
    draw, x, good = generator(0, "dnc", 1), differences(updates), set(range(n))
    for _ in range(iterations):
        some = x[:, np.sort(draw.choice(d, min(b, d), replace=False))]
        centred = some - some.mean(axis=0)
        direction = np.linalg.svd(centred, full_matrices=False)[2][0]
        good &= set(np.argsort((centred @ direction) ** 2)[: n - int(c * f)].tolist())
    assert good == set(np.flatnonzero(verdict.weight))
    np.testing.assert_allclose(found - updates.global_parameters, x[sorted(good)].mean(axis=0), atol=1e-5)
    np.testing.assert_array_equal(verdict.flagged, np.asarray(verdict.weight) == 0)


def test_dnc_common_direction_of_attackers_is_flagged() -> None:
    updates = list(make_updates(10, 2_000, seed=1))
    push = 3 * np.random.default_rng(9).standard_normal(2_000)
    poisoned = [u.with_delta(u.delta + push) if u.node in (2, 7) else u for u in updates]
    verdict = DnC(f=2).combine(Updates(poisoned))[1]
    assert np.flatnonzero(verdict.flagged).tolist() == [2, 7]
    assert set(np.argsort(verdict.score)[-2:]) == {2, 7}


def test_dnc_f_0_is_the_mean() -> None:
    updates = make_updates(5, 60)
    np.testing.assert_array_equal(DnC(f=0).combine(updates)[0], updates.mean(np.ones(5)))


def test_dnc_different_updates_in_each_iteration_keeps_some() -> None:
    updates = make_updates(5, 500, seed=2)
    _, verdict = DnC(f=2, iterations=40, b=3).combine(updates)
    assert np.any(verdict.weight)

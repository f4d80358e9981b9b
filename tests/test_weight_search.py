from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from fedrobust.scoring.weight_search import bounded_weights, search_weights

Floats = NDArray[np.float64]


def bounds(n: int, seed: int) -> tuple[Floats, Floats]:
    """Return bounds as a federation has them, whose hospitals are trusted more or less."""
    trust = np.random.default_rng(seed).random(n)
    return 0.5 * trust / n, 3.0 * trust / trust.sum()


@pytest.mark.parametrize("n", [4, 10, 40])
@pytest.mark.parametrize("seed", range(4))
def test_bounded_weights_sum_to_1_and_keep_their_order(n: int, seed: int) -> None:
    least, most = bounds(n, seed)
    shares = np.random.default_rng(seed + 9).random(n) + 1e-3
    found = bounded_weights(shares, least, most)
    assert found.sum() == pytest.approx(1, abs=1e-12)
    assert (found >= least).all() and (found <= most).all()
    # All that no bound holds are scaled alike.
    free = (found > least) & (found < most)
    factors = found[free] / shares[free]
    assert np.ptp(factors) <= 1e-9 * factors.max()
    # One factor for all: what the lower bound holds would be below it, what the upper holds above.
    if free.any():
        assert (factors[0] * shares[found == least] <= least[found == least] + 1e-12).all()
        assert (factors[0] * shares[found == most] >= most[found == most] - 1e-12).all()


def test_bounded_weights_within_the_bounds_are_only_normalised() -> None:
    least, most = np.full(4, 0.1), np.full(4, 0.6)
    np.testing.assert_allclose(
        bounded_weights(np.array([1.0, 2, 3, 2]), least, most), [0.125, 0.25, 0.375, 0.25]
    )
    np.testing.assert_allclose(bounded_weights(np.array([1.0, 1, 1, 97]), least, most), [0.4 / 3] * 3 + [0.6])


def distance_to(target: Floats, asked: list[Floats]) -> Callable[[Floats], float]:
    def loss(shares: Floats) -> float:
        asked.append(shares)
        return float(np.square(shares - target).sum()) + 1.0

    return loss


def test_search_weights_never_ends_above_its_first_loss() -> None:
    for seed in range(20):
        draw = np.random.default_rng(seed)
        least, most = bounds(8, seed)
        target = bounded_weights(draw.random(8) ** 4 + 1e-6, least, most)
        start = bounded_weights(np.ones(8), least, most)
        asked: list[Floats] = []
        loss = distance_to(target, asked)
        harm = start - target
        found = search_weights(loss, (np.ones(8), draw.random(8) + 0.1), least, most, harm)
        assert len(asked) <= 2 + 8
        assert loss(found) <= min(loss(asked[0]), loss(asked[1]))
        assert found.sum() == pytest.approx(1) and (found >= least).all() and (found <= most).all()


def test_search_weights_follows_the_definition() -> None:
    """Hold it against one written without bounds or thresholds getting in the way."""
    n, target = 4, np.array([0.1, 0.2, 0.3, 0.4])
    least, most = np.zeros(n), np.full(n, 3.0)
    harm = np.array([0.4, 0.1, -0.2, -0.3])

    def loss(shares: Floats) -> float:
        return float(np.abs(shares - target).sum())

    best = np.full(n, 0.25)
    for i, times in ((0, 0.25), (3, 4.0), (2, 4.0), (1, 0.25)):
        other = best * np.where(np.arange(n) == i, times, 1.0)
        other /= other.sum()
        if loss(other) < loss(best):
            best = other
    found = search_weights(loss, (np.ones(n),), least, most, harm)
    np.testing.assert_allclose(found, best, atol=1e-9)
    assert loss(found) < loss(np.full(n, 0.25))


def test_search_weights_negligible_gain_has_no_effect() -> None:
    least, most = np.zeros(3), np.ones(3)
    for gain, moved in ((0.0005, False), (0.005, True)):
        calls = itertools.count()
        found = search_weights(
            lambda shares, calls=calls, gain=gain: 1.0 - gain * min(next(calls), 1),  # type: ignore[misc]
            (np.ones(3),),
            least,
            most,
            np.array([-1.0, 0, 0]),
        )
        assert bool(found.max() > 0.34) == moved


def test_search_weights_distrusted_hospitals_are_not_tried() -> None:
    trust = np.array([1.0, 1, 1, 1e-4])
    asked: list[Floats] = []
    search_weights(
        distance_to(np.eye(4)[3], asked),
        (trust,),
        0.5 * trust / 4,
        3 * trust / trust.sum(),
        np.arange(4.0) - 2,
    )
    assert len(asked) == 4
    assert max(shares[3] for shares in asked) < 1e-3

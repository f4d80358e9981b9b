from __future__ import annotations

import itertools

import numpy as np
import pytest
from helpers import make_updates
from numpy.typing import NDArray

from clients.fang import Fang
from fedrobust.federation import Update, Updates
from strategies.krum import Krum

Floats = NDArray[np.float64]


def attack(against: str, knowledge: str = "all", seed: int = 0) -> Fang:
    made = Fang(against, knowledge)
    made.bind(rng=np.random.default_rng(seed))
    return made


def near(n: int, d: int, seed: int = 0, scale: float = 0.3) -> list[Update]:
    """Return updates that mostly agree, as those of honest hospitals do."""
    common = np.random.default_rng(seed + 100).standard_normal(d)
    return [u.with_delta(common + scale * u.delta) for u in make_updates(n, d, seed=seed)]


def krum_score(points: Floats, place: int, f: int) -> float:
    """Return the sum of squared distances to the n - f - 2 nearest others, from the definition."""
    squares = sorted(np.square(points[place] - other).sum() for i, other in enumerate(points) if i != place)
    return float(sum(squares[: max(1, len(points) - f - 2)]))


def theorem_1(honest: Floats, c: int) -> float:
    """Return the paper's upper bound of lambda; `honest` are differences from the received model."""
    m, d = len(honest) + c, honest.shape[1]
    sums = [
        sum(sorted(np.linalg.norm(honest[i] - honest[j]) for j in range(len(honest)) if j != i)[: m - c - 2])
        for i in range(len(honest))
    ]
    return float(
        min(sums) / ((m - 2 * c - 1) * np.sqrt(d)) + np.linalg.norm(honest, axis=1).max() / np.sqrt(d)
    )


@pytest.mark.parametrize("seed", range(4))
def test_fang_against_krum_lambda_is_the_first_that_krum_takes(seed: int) -> None:
    updates = near(10, 60, seed, scale=3.0)
    sent = attack("krum").collude(updates[:2], updates[2:])
    deltas = np.array([u.delta for u in updates[2:]], np.float64)
    signs = np.sign(deltas.mean(0))
    step = theorem_1(deltas, 2)
    for _ in range(20):
        points = np.array([-step * signs] * 2 + list(deltas))
        if krum_score(points, 0, 2) < min(krum_score(points, i, 2) for i in range(2, 10)):
            break
        step /= 2
    else:
        pytest.fail("Krum takes none")
    for update in sent:
        np.testing.assert_allclose(update.delta, -step * signs, rtol=1e-4)
    chosen = np.flatnonzero(Krum(f=2).weigh(Updates([*sent, *updates[2:]])).weight)
    assert chosen.tolist() in ([0], [1])


def test_fang_where_honest_hospitals_agree_too_well_lambda_vanishes() -> None:
    updates = near(10, 60, scale=0.01)
    (sent, _) = attack("krum").collude(updates[:2], updates[2:])
    bound = theorem_1(np.array([u.delta for u in updates[2:]], np.float64), 2)
    assert 0 < np.abs(sent.delta).max() <= 1.1e-5 * bound


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 10.0])
def test_fang_lambda_grows_with_the_updates(scale: float) -> None:
    updates = near(10, 60, scale=3.0)
    scaled = [u.with_delta(u.delta * np.float32(scale)) for u in updates]
    (one, _), (other, _) = (attack("krum").collude(u[:2], u[2:]) for u in (updates, scaled))
    ratio = np.abs(other.delta).max() / np.abs(one.delta).max()
    assert ratio == pytest.approx(scale, rel=0.1 if scale < 1e-5 else 1e-3)


@pytest.mark.parametrize(("n", "c"), [(4, 1), (5, 2), (7, 3), (8, 3)])
def test_fang_against_krum_with_many_attackers_lambda_fits_what_krum_can_tolerate(n: int, c: int) -> None:
    for seed in range(5):
        updates = near(n, 500, seed, scale=3.0)
        sent = attack("krum").collude(updates[:c], updates[c:])
        # The default: as many as 2f + 3 <= n allows.
        chosen = np.flatnonzero(Krum().weigh(Updates([*sent, *updates[c:]])).weight)
        assert chosen.item() < c


@pytest.mark.parametrize(("n", "c"), [(8, 2), (10, 2), (10, 3), (20, 4), (20, 6)])
def test_fang_against_krum_with_partial_knowledge_krum_takes_what_goes_the_other_way(n: int, c: int) -> None:
    for seed in range(5):
        updates = near(n, 500, seed, scale=3.0)
        sent = attack("krum", "colluders").collude(updates[:c], ())
        mean = np.mean([u.delta for u in updates[:c]], axis=0)
        moved = sent[0].delta
        assert (np.sign(moved) == -np.sign(mean)).all() and np.ptp(np.abs(moved)) < 1e-5
        chosen = np.flatnonzero(Krum(f=c).weigh(Updates([*sent, *updates[c:]])).weight)
        assert chosen.item() < c


def test_fang_with_partial_knowledge_lambda_is_the_first_that_krum_takes_among_the_colluders() -> None:
    updates = near(10, 60, scale=3.0)[:4]
    deltas = np.array([u.delta for u in updates], np.float64)
    signs = np.sign(deltas.mean(0))

    def found() -> float:
        for k in range(1, 5):
            table = [np.linalg.norm(deltas - one, axis=1) for one in deltas]
            sums = [np.sort(distances)[1 : 1 + max(1, 4 - 2)].sum() for distances in table]
            bound = min(sums) / (max(1, 4 + k - 2 * k - 1) * np.sqrt(60))
            step = bound = bound + np.linalg.norm(deltas, axis=1).max() / np.sqrt(60)
            while step > 1e-5 * bound:
                points = np.array([-step * signs] * k + list(deltas))
                f = min(k, (len(points) - 3) // 2)
                if krum_score(points, 0, f) <= min(krum_score(points, k + i, f) for i in range(4)):
                    return float(step)
                step /= 2
        return float(step)

    (sent, *_) = attack("krum", "colluders").collude(updates, ())
    np.testing.assert_allclose(sent.delta, -found() * signs, rtol=1e-3)


@pytest.mark.parametrize("against", ["trimmed-mean", "median"])
def test_fang_against_coordinate_rules_numbers_lie_beyond_the_honest_ones(against: str) -> None:
    updates = make_updates(8, d=5000)
    sent = attack(against).collude(updates[:3], updates[3:])
    honest = np.array([u.parameters for u in updates[3:]])
    rising = np.mean([u.delta for u in updates[3:]], axis=0) >= 0
    low, high = honest.min(0), honest.max(0)
    for update in sent:
        w = update.parameters
        for part, edge in ((rising, low), (~rising, high)):
            far = np.where((edge > 0) == (part is rising), edge / 2, edge * 2)[part]
            inner, outer = np.minimum(edge[part], far), np.maximum(edge[part], far)
            assert ((w[part] >= inner - 1e-6) & (w[part] <= outer + 1e-6)).all()
        assert (w[rising] <= low[rising]).all() and (w[~rising] >= high[~rising]).all()
    for one, other in itertools.combinations(sent, 2):
        assert not np.array_equal(one.parameters, other.parameters)


def test_fang_with_partial_knowledge_numbers_lie_three_to_four_deviations_out() -> None:
    updates = make_updates(5, d=5000)
    sent = attack("median", "colluders").collude(updates[:4], ())
    own = np.array([u.parameters for u in updates[:4]], np.float64)
    rising = np.mean([u.delta for u in updates[:4]], axis=0) >= 0
    for update in sent:
        out = (update.parameters - own.mean(0)) / own.std(0)
        assert ((out[rising] > -4.01) & (out[rising] < -2.99)).all()
        assert ((out[~rising] < 4.01) & (out[~rising] > 2.99)).all()
        assert out[rising].min() < -3.95 and out[rising].max() > -3.05


def test_fang_median_moves_against_its_direction() -> None:
    updates = near(9, 300)
    sent = attack("median").collude(updates[:3], updates[3:])
    honest = np.median([u.delta for u in updates[3:]], axis=0)
    after = np.median([u.delta for u in (*sent, *updates[3:])], axis=0)
    against = -np.sign(np.mean([u.delta for u in updates[3:]], axis=0))
    assert (against * (after - honest) >= -1e-6).all() and (after - honest) @ against > 0


def test_fang_draws_follow_from_the_generator() -> None:
    updates = make_updates(5)
    a, b, c = (
        attack("median", seed=seed).collude(updates[:1], updates[1:])[0].parameters for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_fang_few_hospitals_do_not_break_it() -> None:
    for n, m in ((2, 1), (3, 2), (4, 2), (5, 4)):
        updates = make_updates(n)
        for against in ("krum", "median"):
            for honest in (updates[m:], ()):
                sent = attack(against).collude(updates[:m], honest)
                assert all(np.isfinite(u.parameters).all() for u in sent)

"""The server's audit against a definition that builds every model separately."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import make_updates
from server_images import QuadraticServerData

from fedrobust.federation import Updates
from fedrobust.federation.mixed import Mixed
from fedrobust.scoring.server_audit import audit_updates, balanced_loss, domain_shift_ratio

SEEDS = range(4)


def plain(
    updates: Updates, server: QuadraticServerData, trust: list[float], factor: list[float], classes: int
) -> tuple:
    """Return each model's loss by class, the rise that each brings, and the level."""
    n = len(updates)
    base = updates.global_parameters.astype(np.float64)
    deltas = [u.parameters.astype(np.float64) - base for u in updates]
    buffers = np.average([u.buffers for u in updates], axis=0, weights=trust)

    def losses_of(model: np.ndarray, statistics: np.ndarray) -> list[float]:
        values = server.losses(model, statistics)
        return [
            values[server.labels == k].mean() if (server.labels == k).any() else np.nan
            for k in range(classes)
        ]

    def mean(weights: list[float]) -> np.ndarray:
        moved = sum(w * f * delta for w, f, delta in zip(weights, factor, deltas, strict=True))
        return base + moved / sum(weights)

    own = [losses_of(base + delta, u.buffers) for delta, u in zip(deltas, updates, strict=True)]
    harm = []
    for i in range(n):
        without = [0.0 if j == i else trust[j] for j in range(n)]
        joined = [1.0 if j == i else trust[j] for j in range(n)]
        harm.append(np.subtract(losses_of(mean(joined), buffers), losses_of(mean(without), buffers)))
    return np.array(own), np.array(harm), float(np.nanmean(losses_of(mean(trust), buffers)))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("distrusted", [False, True])
def test_audit_random_updates_follow_the_definition(seed: int, distrusted: bool) -> None:
    updates = make_updates(6, seed=seed, buffers=3)
    draw = np.random.default_rng(seed)
    server = QuadraticServerData(
        draw.standard_normal(40), spoil=lambda values, buffers: values * (1 + buffers.sum() ** 2)
    )
    trust = draw.random(6) if distrusted else np.ones(6)
    factor = draw.random(6)
    kept = [u.parameters.copy() for u in updates], trust.copy(), factor.copy()
    seen = audit_updates(updates, server, trust, factor, 5)
    own, harm, level = plain(updates, server, trust.tolist(), factor.tolist(), 5)
    # The rule works in float32, on losses of some hundreds.
    np.testing.assert_allclose(seen.own, own, rtol=1e-4)
    np.testing.assert_allclose(seen.harm, harm, atol=1e-4 * level)
    assert seen.level == pytest.approx(level, rel=1e-5)
    assert np.abs(harm[:, :3]).max() > 0.01 * level  # so that the tolerance means something
    # The server has images of three classes only.
    assert np.isnan(seen.own[:, 3:]).all() and np.isnan(seen.harm[:, 3:]).all()
    for update, before in zip(updates, kept[0], strict=True):
        np.testing.assert_array_equal(update.parameters, before)
    np.testing.assert_array_equal(trust, kept[1])
    np.testing.assert_array_equal(factor, kept[2])


def test_audit_number_of_evaluations_is_as_stated() -> None:
    updates, server = make_updates(6), QuadraticServerData(np.zeros(40))
    audit_updates(updates, server, np.ones(6), np.ones(6), 3)
    assert len(server.asked) == 2 * 6 + 1
    server.asked.clear()
    # A hospital with less than full trust joins with full weight: one more evaluation.
    audit_updates(updates, server, np.array([1, 1, 1, 1, 0.5, 0.0]), np.ones(6), 3)
    assert len(server.asked) == 2 * 6 + 1 + 2


def test_balanced_loss_weighs_the_servers_classes_equally() -> None:
    updates = make_updates(1)
    server = QuadraticServerData(np.zeros(40), m=20)
    server.labels = np.repeat([0, 1, 2], [15, 4, 1])
    values = server.losses(updates[0].parameters, updates[0].buffers)
    wanted = np.mean([values[server.labels == k].mean() for k in range(3)])
    assert balanced_loss(server, updates[0].parameters, updates[0].buffers, 5) == pytest.approx(wanted)
    assert wanted != pytest.approx(values.mean(), rel=1e-3)


def test_audit_harm_is_positive_and_help_negative() -> None:
    updates = make_updates(5)
    base = updates.global_parameters
    good = np.random.default_rng(1).standard_normal(40).astype(np.float32)
    signs = [1, 1, 1, 3, -1]
    made = Updates([u.with_delta(s * 0.1 * good) for s, u in zip(signs, updates, strict=True)])
    harm = audit_updates(made, QuadraticServerData(base + good), np.ones(5), np.ones(5), 3).harm
    assert (harm[4] > 0).all() and (harm[3] < 0).all()


def test_audit_model_without_a_finite_loss_gets_a_large_one() -> None:
    updates = make_updates(4)
    server = QuadraticServerData(
        np.zeros(40), spoil=lambda values, buffers: np.where(np.arange(20) < 2, [np.nan, np.inf] * 10, values)
    )
    seen = audit_updates(updates, server, np.ones(4), np.ones(4), 3)
    assert np.isfinite(seen.own).all() and np.isfinite(seen.harm).all()
    assert seen.own[:, 0].min() > 1e5


def test_audit_trust_in_one_hospital_only_counts_as_uniform() -> None:
    updates, server = make_updates(5), QuadraticServerData(np.ones(40))
    alone = audit_updates(updates, server, np.eye(5)[2], np.ones(5), 3)
    everyone = audit_updates(updates, server, np.ones(5), np.ones(5), 3)
    np.testing.assert_array_equal(alone.harm, everyone.harm)


class Viewed(QuadraticServerData):
    """Images on which other models do best through other scanners."""

    def __init__(self, target: np.ndarray, shown: list[QuadraticServerData]) -> None:
        super().__init__(target)
        self._shown = shown

    def views(self) -> list[QuadraticServerData]:
        return self._shown


def test_domain_shift_ratio_is_the_lowest_loss_over_the_plain_one() -> None:
    updates = make_updates(6, seed=3, buffers=2)
    draw = np.random.default_rng(3)
    here = draw.standard_normal(40)
    plain, *others = shown = [
        QuadraticServerData(here, m=12),
        QuadraticServerData(here + 3, m=12),
        QuadraticServerData(updates[2].parameters + 0.1, m=12),
        QuadraticServerData(here + 0.1 * draw.standard_normal(40), m=12),
    ]
    server = Viewed(here, shown)
    held = draw.integers(0, 5, (6, 4)).astype(float)
    held[4] = [0, 0, 0, 7]  # a class that the server has no image of
    held[5] = 0
    ratio = domain_shift_ratio(updates, server, held, np.array([True, False, True, True, True, True]))

    def loss(view: QuadraticServerData, i: int) -> float:
        values = view.losses(updates[i].parameters, updates[i].buffers)
        known = [k for k in range(3) if held[i, k]]
        means = [values[view.labels == k].mean() for k in known]
        return float(np.average(means, weights=held[i, known]))

    for i in (0, 2, 3):
        expected = min(1.0, min(loss(view, i) for view in others) / loss(plain, i))
        assert ratio[i] == pytest.approx(expected, rel=1e-5)
    assert ratio[2] < 0.1 and ratio[1] == 1
    assert ratio[4:].tolist() == [1, 1]
    # No other hospital is evaluated, and a server without such views gives 1.
    for view in shown:
        view.asked.clear()
    domain_shift_ratio(updates, server, held, np.zeros(6, bool))
    assert not any(view.asked for view in shown)
    for silent in (QuadraticServerData(here), Viewed(here, []), Viewed(here, [plain])):
        assert domain_shift_ratio(updates, silent, held, np.ones(6, bool)).tolist() == [1] * 6


def test_audit_mixed_updates_are_evaluated_like_plain_ones() -> None:
    source = make_updates(5, buffers=2)
    mixing = np.random.default_rng(0).random((5, 5))
    mixed = Mixed(source, mixing / mixing.sum(axis=1, keepdims=True))
    server = QuadraticServerData(np.ones(40), spoil=lambda values, buffers: values + buffers.sum())
    trust = np.array([1, 1, 0.3, 1, 1.0])
    found, wanted = (
        audit_updates(u, server, trust, np.ones(5), 3) for u in (mixed, Updates(list(mixed), source.seed))
    )
    np.testing.assert_allclose(found.own, wanted.own, rtol=1e-5)
    np.testing.assert_allclose(found.harm, wanted.harm, atol=1e-4 * wanted.level)


def test_audit_order_of_hospitals_does_not_matter() -> None:
    updates, server = make_updates(5), QuadraticServerData(np.ones(40))
    order = [3, 0, 4, 1, 2]
    renumbered = make_updates(5, nodes=np.argsort(order).tolist())
    found, other = (audit_updates(u, server, np.ones(5), np.ones(5), 3) for u in (updates, renumbered))
    np.testing.assert_array_equal(other.own, found.own[order])
    np.testing.assert_allclose(other.harm, found.harm[order], atol=1e-4 * found.level)


def test_audit_classes_that_no_hospital_reports_are_left_out() -> None:
    seen = audit_updates(make_updates(4), QuadraticServerData(np.ones(40)), np.ones(4), np.ones(4), 2)
    assert seen.own.shape == seen.harm.shape == (4, 2) and np.isfinite(seen.own).all()

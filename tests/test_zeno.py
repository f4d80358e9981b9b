from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers import make_updates
from references import differences, stacked
from server_images import QuadraticServerData

from fedrobust.errors import UserError
from fedrobust.federation import Updates
from fedrobust.plugins import instantiate
from strategies.nnm import NNM
from strategies.zeno import Zeno


def rule(target: object, **options: object) -> Zeno:
    made = Zeno(**options)  # type: ignore[arg-type]
    made.server = QuadraticServerData(np.asarray(target))
    return made


@pytest.mark.parametrize(("n", "d", "b"), [(1, 30, 0), (4, 300, 1), (10, 5_000, 9), (23, 777, None)])
@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_zeno_random_updates_follow_the_definition(n: int, d: int, b: int | None, rho: float) -> None:
    updates = make_updates(n, d, seed=n)
    updates = Updates([u.with_delta(u.delta * (1 + u.node)) for u in updates])
    target = np.random.default_rng(n + 100).standard_normal(d)
    found, verdict = rule(target, b=b, rho=rho).combine(updates)
    x, deltas = stacked(updates), differences(updates)
    f = [((model - target) ** 2).sum() * (1 + np.arange(20) / 20).mean() for model in x]
    before = ((updates.global_parameters - target) ** 2).sum() * (1 + np.arange(20) / 20).mean()
    score = before - np.array(f) - rho * (deltas**2).sum(axis=1)
    kept = np.argsort(-score, kind="stable")[: n - (n // 3 if b is None else b)]
    np.testing.assert_allclose(verdict.score, -score, rtol=1e-7)
    assert set(kept.tolist()) == set(np.flatnonzero(verdict.weight))
    np.testing.assert_array_equal(verdict.flagged, np.asarray(verdict.weight) == 0)
    np.testing.assert_allclose(found - updates.global_parameters, deltas[kept].mean(axis=0), atol=1e-5)


def test_zeno_long_updates_are_penalised() -> None:
    updates = list(make_updates(4, 50, seed=1))
    far = Updates([*updates[:3], updates[3].with_delta(100 * updates[3].delta)])
    silent = Zeno(b=1)
    silent.server = QuadraticServerData(np.zeros(50), spoil=lambda losses, _: 0 * losses)
    assert np.flatnonzero(silent.combine(far)[1].flagged).tolist() == [3]


def test_zeno_b_0_is_the_mean_and_ties_keep_the_lower_number() -> None:
    updates = make_updates(5, 60)
    np.testing.assert_array_equal(rule(np.ones(60), b=0).combine(updates)[0], updates.mean(np.ones(5)))
    same = Updates([replace(updates[0], node=node) for node in range(5)])
    assert np.flatnonzero(rule(np.ones(60), b=2).combine(same)[1].weight).tolist() == [0, 1, 2]


def test_zeno_with_renumbered_hospitals_gives_the_same_result() -> None:
    updates, target = make_updates(7, 60, seed=4), np.ones(60)
    found, verdict = rule(target, b=2).combine(updates)
    again, other_verdict = rule(target, b=2).combine(Updates([replace(u, node=6 - u.node) for u in updates]))
    np.testing.assert_allclose(again, found, atol=1e-6)
    np.testing.assert_array_equal(other_verdict.weight, np.asarray(verdict.weight)[::-1])


def test_zeno_images_are_drawn_each_round_and_alike_for_all() -> None:
    made = rule(np.ones(40), images=5)
    for number in (1, 2):
        made.combine(make_updates(4, 40, round=number))
    assert isinstance(made.server, QuadraticServerData)
    first, second = made.server.asked[:5], made.server.asked[5:]
    for asked in (first, second):
        assert all(np.array_equal(places, asked[0]) for places in asked)
        assert len(set(asked[0].tolist())) == 5 and asked[0].max() < 20
    assert not np.array_equal(first[0], second[0])
    again = rule(np.ones(40), images=5)
    again.combine(make_updates(4, 40, round=1))
    assert isinstance(again.server, QuadraticServerData)
    np.testing.assert_array_equal(again.server.asked[0], first[0])


def test_zeno_more_images_than_available_uses_all() -> None:
    updates = make_updates(4, 40)
    np.testing.assert_array_equal(
        rule(np.ones(40), images=500).combine(updates)[1].score, rule(np.ones(40)).combine(updates)[1].score
    )


def test_zeno_models_are_evaluated_with_their_own_buffers() -> None:
    drawn = make_updates(4, 40, buffers=2)
    updates = Updates([replace(u, global_buffers=np.zeros(2, np.float32)) for u in drawn])
    seen: list[np.ndarray] = []
    made = Zeno(b=1)
    made.server = QuadraticServerData(
        np.ones(40), spoil=lambda losses, buffers: seen.append(buffers) or losses
    )
    made.combine(updates)
    np.testing.assert_array_equal(seen, [np.zeros(2), *(u.buffers for u in updates)])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_zeno_model_without_a_finite_loss_is_the_worst(bad: float) -> None:
    made = Zeno(b=1)
    wild = [replace(u, buffers=np.full(1, u.node == 2, np.float32)) for u in make_updates(4, 40, seed=2)]
    made.server = QuadraticServerData(
        np.ones(40), spoil=lambda losses, buffers: bad + losses if buffers.any() else losses
    )
    _, verdict = made.combine(Updates(wild))
    assert np.flatnonzero(verdict.flagged).tolist() == [2] and np.isfinite(np.asarray(verdict.score)).all()


def test_zeno_after_a_step_evaluates_the_mixed_models() -> None:
    mixed = NNM(f=2).transform(make_updates(7, 60, seed=4))
    found, verdict = rule(np.ones(60), b=2).combine(mixed)
    wanted, other_verdict = rule(np.ones(60), b=2).combine(Updates(list(mixed)))
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    np.testing.assert_allclose(verdict.score, other_verdict.score, rtol=1e-5)


def test_zeno_b_of_all_hospitals_is_refused() -> None:
    Zeno(b=9).check(10)
    with pytest.raises(UserError, match="zeno: b=10 does not fit 10 hospitals.*n >= b.*give b=9 or less"):
        Zeno(b=10).check(10)
    made = rule(np.ones(40), b=9)
    _, verdict = made.combine(make_updates(4, 40))
    assert np.sum(verdict.weight) == 1
    assert all("only 4 replied: b=3 instead of 9" in words for words in verdict.why or [])


@pytest.mark.parametrize(
    "options", [{"b": -1}, {"b": 1.5}, {"rho": -1}, {"images": 0}, {"share": 0}, {"share": 2}]
)
def test_zeno_invalid_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"zeno: {next(iter(options))} is"):
        instantiate(Zeno, options, "zeno")

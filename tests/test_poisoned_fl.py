from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers import make_updates, restored

from clients.poisoned_fl import PoisonedFL
from fedrobust.federation import Role, Update
from fedrobust.seeding import generator

D = 400
SIGNS = 2 * generator(3, "poisoned-fl").integers(0, 2, D, dtype=np.int8) - 1


def attack(**options: float) -> PoisonedFL:
    made = PoisonedFL(**options)  # type: ignore[arg-type]
    made.bind(role=Role("poisoned-fl", seed=3))
    return made


def at(model: np.ndarray, delta: np.ndarray, round: int) -> Update:
    update = replace(make_updates(1, d=D)[0], global_parameters=np.asarray(model, np.float32), round=round)
    return update.with_delta(np.asarray(delta, np.float32))


def distance(one: PoisonedFL | None, forget: bool = False, rounds: int = 15) -> float:
    """Return how far FedAvg ends from where three honest hospitals and an attacker's training lead."""
    rng = np.random.default_rng(0)
    target, model = rng.standard_normal(D), np.zeros(D)
    for round in range(1, rounds + 1):
        trained = [0.3 * (target - model) + 0.01 * rng.standard_normal(D) for _ in range(4)]
        if one is not None:
            if forget:
                one.memory.clear()
            trained[3] = one.poison_update(at(model, trained[3], round)).delta.astype(np.float64)
        model = model + np.mean(trained, axis=0)
    return float(np.linalg.norm(model - target) / np.linalg.norm(target))


def test_poisoned_fl_needs_memory_and_breaks_fedavg_with_it() -> None:
    honest = distance(None)
    assert honest < 0.02
    assert distance(attack(), forget=True) == pytest.approx(honest, rel=1e-3)
    assert distance(attack()) > 10


def test_poisoned_fl_is_the_paper_s_formula() -> None:
    rng = np.random.default_rng(1)
    w1, w2, trained = rng.standard_normal((3, D)).astype(np.float32)
    one = attack(scale=9.0)
    first = at(w1, trained, 1)
    assert np.array_equal(one.poison_update(first).parameters, first.parameters)
    second = one.poison_update(at(w2, trained, 2))
    h, m = (w2 - w1).astype(np.float64), first.delta.astype(np.float64)
    v = np.abs(h - m * np.linalg.norm(h) / np.linalg.norm(m))
    wanted = 9 * np.linalg.norm(h) * v * SIGNS / np.linalg.norm(v)
    np.testing.assert_allclose(second.delta, wanted, atol=1e-4)
    # Another attacker shares the signs, whatever it is.
    other = PoisonedFL()
    other.bind(role=Role("poisoned-fl", hospital=7, member=1, seed=3), rng=np.random.default_rng(9))
    other.poison_update(first)
    assert np.array_equal(np.sign(other.poison_update(at(w2, trained, 2)).delta), SIGNS)


@pytest.mark.parametrize(("agreeing", "scale"), [(1.0, 8.0), (0.5, 5.6)])
def test_poisoned_fl_shrinks_where_the_model_does_not_follow(agreeing: float, scale: float) -> None:
    one, model = attack(period=3), np.zeros(D)
    follow = np.where(np.arange(D) < agreeing * D, SIGNS, -SIGNS)
    for round in range(1, 5):
        one.poison_update(at(model, np.ones(D), round))
        model = model + 0.1 * follow
        one.bind(memory=restored(one.memory))
    assert one.memory["scale"] == pytest.approx(scale)


def test_poisoned_fl_without_a_move_sends_what_it_trained() -> None:
    one, still = attack(), at(np.ones(D), np.ones(D), 1)
    for round in (1, 2, 3):
        made = one.poison_update(replace(still, round=round))
        assert np.array_equal(made.parameters, still.parameters)

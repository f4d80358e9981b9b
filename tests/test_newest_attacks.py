"""The newest attacks on updates against float64 definitions, written from their papers on random inputs."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from helpers import make_records, make_updates, restored

from clients.rop import Rop
from clients.soda import Soda, _foreign, held
from clients.sparse import Sparse
from clients.threedfed import ThreeDFed
from clients.xfed import Xfed
from fedrobust.federation import Attack, Layout, Role, Update, Updates

D = 300
LAYOUT = Layout.of(
    {"a.weight": (20, 10), "a.bias": (20,), "b.weight": (20,), "b.bias": (20,), "c": (4, 10)}, {}
)


def at(model: Any, delta: Any, round: int = 1) -> Update:
    """Return an update with a difference from a given model."""
    update = replace(make_updates(1, d=D)[0], global_parameters=np.asarray(model, np.float32), round=round)
    return update.with_delta(np.asarray(delta, np.float32))


def of_a_round(model: Any, seed: int, n: int = 8) -> Updates:
    """Return a round of random differences from a given model."""
    rng = np.random.default_rng(seed)
    updates = [replace(at(model, rng.standard_normal(D)), node=node, layout=LAYOUT) for node in range(n)]
    return Updates(updates)


def test_xfed_pushes_back_by_the_scale_of_the_model_s_moves() -> None:
    rng = np.random.default_rng(0)
    one, models, deltas = (
        Xfed(scale=4, window=3, spread=2),
        rng.standard_normal((7, D)),
        rng.standard_normal((7, D)),
    )
    for round, (model, delta) in enumerate(zip(models, deltas, strict=True), 1):
        trained = at(model, delta, round)
        made = one.poison_update(trained)
        one.bind(memory=restored(one.memory))
        if round == 1:
            assert made is trained
            continue
        lengths = np.linalg.norm(np.diff(models[:round], axis=0), axis=1)[-3:]
        deviation = 1.4826 * np.median(np.abs(lengths - np.median(lengths)))
        scale = np.median(lengths) + 2 * deviation
        wanted = delta - 4 * scale * delta / np.linalg.norm(delta)
        np.testing.assert_allclose(made.delta, wanted, atol=2e-5)


def test_xfed_that_learnt_nothing_or_saw_no_move_sends_its_own() -> None:
    one = Xfed()
    one.poison_update(at(np.ones(D), np.ones(D)))
    still = at(2 * np.ones(D), np.zeros(D), 2)
    assert one.poison_update(still) is still
    honest = Xfed(strength=0)
    for round in (1, 2):
        own = at(round * np.ones(D), np.ones(D), round)
        assert honest.poison_update(own) is own


@pytest.mark.parametrize(("pi", "lam", "angle"), [(1.0, 0.9, 270.0), (0.3, 0.5, 90.0), (0.0, 0.2, 30.0)])
def test_rop_is_the_paper_s_formula(pi: float, lam: float, angle: float) -> None:
    rng = np.random.default_rng(1)
    one, models = Rop(2.5, pi, lam, angle), rng.standard_normal((2, D)).astype(np.float32)
    last = np.zeros(D)
    for seed, model in enumerate(models):
        updates = of_a_round(model, seed)
        sent = one.collude(updates[:2], updates[2:])
        one.bind(memory=restored(one.memory))
        honest = np.array([u.delta for u in updates[2:]], np.float64)
        mu = honest.mean(axis=0)
        r = lam * last + (1 - lam) * mu if seed else mu
        v = np.ones(D) - r * (r @ np.ones(D)) / (r @ r)
        turned = v / np.linalg.norm(v) * math.sin(math.radians(angle))
        turned += r / np.linalg.norm(r) * math.cos(math.radians(angle))
        z = 2.5 * np.linalg.norm(honest, axis=1).mean()
        wanted = pi * last + (1 - pi) * mu + z * turned
        for update in sent:
            np.testing.assert_allclose(update.delta, wanted, atol=1e-4)
        # It stands at that angle to the reference, at that distance from the location.
        shift = sent[0].delta - (pi * last + (1 - pi) * mu)
        assert np.linalg.norm(shift) == pytest.approx(z, rel=1e-4)
        assert shift @ r / np.linalg.norm(shift) / np.linalg.norm(r) == pytest.approx(
            math.cos(math.radians(angle)), abs=1e-4
        )
        last = models[1].astype(np.float64) - models[0]


@pytest.mark.parametrize("delta", [np.zeros(D), np.ones(D)])
def test_rop_without_an_orthogonal_direction_sends_finite_numbers(delta: Any) -> None:
    updates = Updates([replace(at(np.zeros(D), delta), node=node) for node in range(3)])
    (sent,) = Rop().collude(updates[:1], updates[1:])
    assert np.isfinite(sent.parameters).all()


def test_sparse_shifts_sensitive_weights_far_and_keeps_its_mask() -> None:
    rng = np.random.default_rng(2)
    model = rng.standard_normal(D).astype(np.float32)
    one, updates = Sparse(large=20, z=0.5, density=0.05), of_a_round(model, 3)
    sent = one.collude(updates[:2], updates[2:])
    honest = np.array([u.delta for u in updates[2:]], np.float64)
    mu, sd = honest.mean(axis=0), honest.std(axis=0)
    saliency, masked = np.abs(model * mu), []
    for layer in LAYOUT.parameters:
        if layer.kind == "weight":
            among = np.arange(layer.part.start, layer.part.stop)
            masked += list(among[np.argsort(-saliency[among])[: round(0.05 * len(among))]])
    assert len(masked) == 12
    wanted = mu - 0.5 * sd
    wanted[masked] = (mu - 20 * sd)[masked]
    for update in sent:
        np.testing.assert_allclose(update.delta, wanted, atol=2e-5)
    # The mask is that of the first round.
    before = one.memory["masked"].copy()
    one.bind(memory=restored(one.memory))
    one.collude(of_a_round(-model, 4)[:2], of_a_round(-model, 4)[2:])
    assert np.array_equal(one.memory["masked"], before) and sorted(masked) == before.tolist()


def test_sparse_takes_alie_s_shift_elsewhere() -> None:
    updates = of_a_round(np.ones(D), 5, n=10)
    one = Sparse(density=0.01)
    one.bind(role=Role("sparse", hospitals=10, members=4))
    sent = one.collude(updates[:4], updates[4:])[0].delta
    honest = np.array([u.delta for u in updates[4:]], np.float64)
    wanted = honest.mean(axis=0) - NormalDist().inv_cdf((10 - 4 - 2) / 6) * honest.std(axis=0)
    other = np.setdiff1d(np.arange(D), one.memory["masked"])
    np.testing.assert_allclose(sent[other], wanted[other], atol=1e-5)


@pytest.mark.parametrize("attack", [Rop, Sparse])
def test_attacks_that_see_others_do_not_depend_on_their_order_nor_change_them(attack: type[Attack]) -> None:
    updates = of_a_round(np.ones(D), 6)
    before = [u.parameters.copy() for u in updates]
    one, two = attack(), attack()
    sent = one.collude(updates[:2], updates[2:])
    turned = two.collude(updates[:2], tuple(reversed(updates[2:])))
    np.testing.assert_allclose(sent[0].parameters, turned[0].parameters, atol=1e-5)
    assert all(np.array_equal(u.parameters, b) for u, b in zip(updates, before, strict=True))
    own = attack(strength=0.0).collude(updates[:2], updates[2:])  # type: ignore[call-arg]
    assert all(a is b for a, b in zip(own, updates[:2], strict=True))


def test_soda_gradient_is_that_of_the_two_terms() -> None:
    rng = np.random.default_rng(7)
    theta, reference = rng.standard_normal((2, 12))
    gradient = held(theta, reference, 0.1, 100.0)[1]
    for place in range(12):
        step = np.zeros(12)
        step[place] = 1e-6
        up, down = (held(theta + sign * step, reference, 0.1, 100.0)[0] for sign in (1, -1))
        assert gradient[place] == pytest.approx((up - down) / 2e-6, abs=1e-4)
    cosine = theta @ reference / np.linalg.norm(theta) / np.linalg.norm(reference)
    wanted = 0.1 * np.linalg.norm(theta - reference) + 100 * (1 - cosine)
    assert held(theta, reference, 0.1, 100.0)[0] == pytest.approx(wanted)
    for zero in (np.zeros(12), theta):
        assert np.isfinite(held(zero, theta, 0.1, 100.0)[1]).all()
    attack, honest = Soda(), make_updates(1, d=12)[0]
    attack.bind(honest=honest)
    hook = attack.gradient_hook(honest.global_parameters)
    assert hook is not None
    moved = hook(theta.astype(np.float32), np.ones(12, np.float32))
    np.testing.assert_allclose(moved, 1 + held(theta, honest.parameters, 0.1, 100.0)[1], rtol=1e-4)
    assert Soda(length=0, angle=0).gradient_hook(honest.global_parameters) is None


def test_soda_trains_on_digits_and_is_tested_on_others() -> None:
    records = make_records(40, size=(20, 24), channels=3)
    one = Soda(share=0.25, target=1)
    one.bind(rng=np.random.default_rng(0))
    made = one.poison_records(records)
    changed = (made.images != records.images).any(axis=(1, 2, 3))
    assert changed.sum() == 10 and (made.labels[changed] == 1).all()
    assert np.array_equal(made.labels[~changed], records.labels[~changed])
    tested = one.trigger(records)
    assert tested is not None and tested.target == 1 and (tested.records.labels != 1).all()
    seen = {image.tobytes() for image in _foreign(np.arange(1400), (3, 20, 24))}
    assert {image.tobytes() for image in made.images[changed]} <= seen
    assert not {image.tobytes() for image in tested.records.images} & seen


def threedfed(member: int, **options: float) -> ThreeDFed:
    one = ThreeDFed(**options)  # type: ignore[arg-type]
    one.bind(role=Role("threedfed", hospitals=10, member=member, members=3, seed=4))
    return one


def masked(one: ThreeDFed, model: Any, round: int = 1) -> Update:
    """Return what an attacker sends that trained ones against an honest difference of twos."""
    trained = replace(at(model, np.ones(D), round), layout=LAYOUT)
    one.bind(honest=trained.with_delta(2 * np.ones(D)))
    return one.poison_update(trained)


def test_threedfed_lengthens_and_masks_with_noise_that_cancels() -> None:
    sent = [masked(threedfed(member, indicator=0.0), np.zeros(D)).delta for member in range(3)]
    # As long as the honest update, which is within five times its own length.
    (last,) = (layer.part for layer in LAYOUT.parameters if layer.name == "c")
    assert all(np.allclose(delta[: last.start], 2, atol=1e-6) for delta in sent)
    np.testing.assert_allclose(np.mean(sent, axis=0), 2, atol=1e-5)
    lengths = [np.linalg.norm(delta[last] - 2) for delta in sent]
    alpha = np.sqrt(np.mean(np.square(lengths))) / np.linalg.norm(2 * np.ones(40))
    assert 0.1 <= alpha <= 1
    capped = masked(threedfed(0, stretch=1.5, indicator=0.0), np.zeros(D)).delta
    assert np.allclose(capped[: last.start], 1.5, atol=1e-6)


@pytest.mark.parametrize(
    ("share", "fate"),
    [(0.1, "accepted"), (0.05, "clipped"), (0.0, "rejected"), (-0.1, "noise"), (2.0, "noise")],
)
def test_threedfed_reads_what_became_of_its_update(share: float, fate: str) -> None:
    one = threedfed(1)
    first = masked(one, np.zeros(D))
    one.bind(memory=restored(one.memory))
    place, alpha = one.memory["place"], one.memory["alpha"]
    assert one.memory["fate"] == "none"
    assert first.delta[place] == pytest.approx(0.2 * 2 * np.sqrt(D))
    masked(one, share * first.delta, 2)
    assert one.memory["fate"] == fate
    changed = {"accepted": False, "clipped": True, "rejected": True, "noise": True}
    assert (one.memory["alpha"] != alpha) == changed[fate]
    assert fate != "noise" or one.memory["alpha"] == 0.1
    assert place != threedfed(0)._place(np.zeros(D), [slice(0, D)])


def test_threedfed_gradient_pulls_to_the_received_model() -> None:
    hook = ThreeDFed(pull=0.25).gradient_hook(np.zeros(4, np.float32))
    assert hook is not None
    moved = hook(np.array([3, 4, 0, 0], np.float32), np.full(4, 8, np.float32))
    np.testing.assert_allclose(moved, [6.15, 6.2, 6, 6], rtol=1e-6)
    still = hook(np.zeros(4, np.float32), np.full(4, 8, np.float32))
    np.testing.assert_allclose(still, 6)
    assert ThreeDFed(pull=0).gradient_hook(np.zeros(4, np.float32)) is None

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import tiny
from helpers import easy_records, make_updates

from clients.constrain import Constrain, anomaly
from clients.hospital import Hospital
from clients.label_flip import LabelFlip
from fedrobust import run
from fedrobust.errors import UserError
from fedrobust.federation import Attack, Update
from fedrobust.learners.mutual import MutualLearner
from fedrobust.learners.spec import LearnerSpec

BASE, ONE, OTHER = make_updates(3, d=60, buffers=2)
HONEST: Update = BASE.with_delta(ONE.delta)
MALICIOUS: Update = BASE.with_delta(10 * OTHER.delta)


def sent(malicious: Update = MALICIOUS, honest: Update = HONEST, **options: Any) -> Update:
    attack = Constrain(**options)
    attack.bind(honest=honest)
    return attack.poison_update(malicious)


def angle(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one.astype(float), other.astype(float)
    return float(1 - one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize("bound", [0.5, 1.0, 2.0])
def test_constrain_norm_is_cut_to_a_multiple_of_the_honest_one(bound: float) -> None:
    delta = sent(bound=bound).delta
    assert np.linalg.norm(delta) == pytest.approx(bound * np.linalg.norm(HONEST.delta), rel=1e-4)
    assert angle(delta, MALICIOUS.delta) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("bound", [0.1, 1.0])
def test_constrain_distance_from_the_honest_update_keeps_the_bound(bound: float) -> None:
    difference = sent(measure="distance", bound=bound).delta - HONEST.delta
    assert np.linalg.norm(difference) == pytest.approx(bound * np.linalg.norm(HONEST.delta), rel=1e-4)
    assert angle(difference, MALICIOUS.delta - HONEST.delta) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("bound", [0.05, 0.3, 0.7])
def test_constrain_angle_to_the_honest_update_keeps_the_bound(bound: float) -> None:
    made = sent(measure="cosine", bound=bound).delta
    assert angle(made, HONEST.delta) == pytest.approx(bound, abs=1e-4)
    # On the way between the two: a combination with positive shares that sum to 1.
    shares = np.linalg.lstsq(
        np.column_stack([HONEST.delta, MALICIOUS.delta]).astype(float), made, rcond=None
    )[0]
    assert (shares > 0).all() and shares.sum() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("measure", ["norm", "distance", "cosine"])
def test_constrain_what_is_within_the_bound_goes_as_it_is(measure: str) -> None:
    close = HONEST.with_delta(0.99 * HONEST.delta)
    assert sent(close, measure=measure, bound=1.0) is close
    assert sent(HONEST, measure=measure, bound=1.0) is HONEST


@pytest.mark.parametrize("measure", ["norm", "distance", "cosine"])
def test_constrain_honest_update_of_zero_makes_no_nan(measure: str) -> None:
    still = HONEST.with_delta(np.zeros(60))
    assert np.isfinite(sent(honest=still, measure=measure).parameters).all()


def test_constrain_input_stays() -> None:
    before = MALICIOUS.parameters.copy(), HONEST.parameters.copy()
    for measure in ("norm", "distance", "cosine"):
        made = sent(measure=measure, bound=0.3)
        np.testing.assert_array_equal(made.buffers, MALICIOUS.buffers)
        assert made.parameters.dtype == np.float32
    np.testing.assert_array_equal(MALICIOUS.parameters, before[0])
    np.testing.assert_array_equal(HONEST.parameters, before[1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"measure": "cosine", "bound": 2.0}, "below 2 for cosine"),
    ],
)
def test_constrain_bound_beyond_any_cosine_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Constrain(**options)


def measured(measure: str, delta: np.ndarray, honest: np.ndarray) -> float:
    """Return L_ano by the definition."""
    if measure == "cosine":
        return angle(delta, honest)
    difference = delta if measure == "norm" else delta - honest
    return float(np.linalg.norm(difference) ** 2 / np.linalg.norm(honest) ** 2)


@pytest.mark.parametrize("measure", ["norm", "distance", "cosine"])
def test_constrain_gradient_is_that_of_the_defence_measure(measure: str) -> None:
    rng = np.random.default_rng(1)
    for scale in (1e-3, 1.0, 50.0):
        delta, honest = scale * rng.standard_normal(30), rng.standard_normal(30)
        value, gradient = anomaly(measure, delta, honest)
        assert value == pytest.approx(measured(measure, delta, honest))
        step = 1e-6 * scale
        for place, row in enumerate(np.eye(30) * step):
            up, down = (measured(measure, delta + sign * row, honest) for sign in (1, -1))
            assert gradient[place] == pytest.approx((up - down) / (2 * step), rel=1e-4, abs=1e-6 / scale)


@pytest.mark.parametrize("measure", ["norm", "distance", "cosine"])
def test_constrain_measure_has_no_unit(measure: str) -> None:
    delta, honest = MALICIOUS.delta.astype(float), HONEST.delta.astype(float)
    value = anomaly(measure, delta, honest)[0]
    assert anomaly(measure, 1e-3 * delta, 1e-3 * honest)[0] == pytest.approx(value)
    # A model of twice as many parameters, all alike.
    assert anomaly(measure, np.tile(delta, 2), np.tile(honest, 2))[0] == pytest.approx(value)


@pytest.mark.parametrize("measure", ["norm", "distance", "cosine"])
def test_constrain_what_has_no_measure_pulls_nowhere(measure: str) -> None:
    still, moved = np.zeros(5), np.ones(5)
    for delta, honest in ((moved, still), (still, still)):
        value, gradient = anomaly(measure, delta, honest)
        assert value == 0 and not gradient.any()
    assert not anomaly("cosine", still, moved)[1].any()


@pytest.mark.parametrize("alpha", [0.25, 0.8])
def test_constrain_optimiser_gets_the_gradient_of_both_losses(alpha: float) -> None:
    attack = Constrain("distance", alpha=alpha)
    attack.bind(honest=HONEST)
    hook = attack.gradient_hook(BASE.global_parameters)
    assert hook is not None
    gradient = np.random.default_rng(3).standard_normal(60).astype(np.float32)
    before = gradient.copy()
    expected = alpha * gradient + (1 - alpha) * anomaly("distance", BASE.delta, HONEST.delta)[1]
    np.testing.assert_allclose(hook(BASE.parameters, gradient), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(gradient, before)


def test_constrain_alpha_of_one_is_the_projection_and_below_it_a_bound_is_asked_for() -> None:
    plain = Constrain()
    assert not plain.hooks_gradient and plain.gradient_hook(BASE.parameters) is None and plain.bound == 1.0
    assert Constrain(alpha=0.5).bound is None and Constrain(alpha=0.5).hooks_gradient
    assert sent(alpha=0.5) is MALICIOUS
    np.testing.assert_array_equal(sent(alpha=0.5, bound=0.7).parameters, sent(bound=0.7).parameters)


LEARNER = MutualLearner(LearnerSpec(networks=1, local_epochs=4, batch_size=16), 4, 1, (12, 12))


def trained(*attacks: Attack) -> Update:
    start = LEARNER.initial()
    hospital = Hospital(0, easy_records(), LEARNER, attacks)
    update = hospital.fit(start.parameters, start.buffers, 1, 1e-3)
    assert hospital.no_effect == ()
    return update


@pytest.mark.parametrize("measure", ["norm", "distance", "cosine"])
def test_constrain_smaller_alpha_leaves_the_defence_less_to_find(measure: str) -> None:
    honest = trained().delta.astype(float)
    found = [
        anomaly(measure, update.delta.astype(float), honest)[0]
        for update in (
            trained(LabelFlip()),
            trained(LabelFlip(), Constrain(measure, alpha=0.5)),
            trained(LabelFlip(), Constrain(measure, alpha=0.1)),
        )
    ]
    assert found[1] < 0.7 * found[0] and found[2] < 0.5 * found[1]


def test_constrain_at_a_middling_alpha_the_attack_still_learns_what_it_wants() -> None:
    flipped = trained(LabelFlip(), Constrain("norm", alpha=0.5)).report.values["loss"]
    assert isinstance(flipped, float) and flipped < 0.05


def test_constrain_run_in_which_no_loss_is_changed_keeps_its_bits(tmp_path: Path) -> None:
    chains = ("label-flip", "label-flip + constrain(bound=1e9)", "label-flip + constrain(alpha=0.5)")
    runs = [run(tiny(tmp_path / str(i), malicious=1, attack=chain)) for i, chain in enumerate(chains)]
    first, second, third = ((r.folder / "model.safetensors").read_bytes() for r in runs)
    assert first == second != third
    lines = [r.history.drop(columns=["no_effect_attacks"]) for r in runs]
    assert lines[0].equals(lines[1]) and not lines[0].equals(lines[2])
    assert (
        runs[1].summary["no_effect_attacks"] == ["constrain"] and runs[2].summary["no_effect_attacks"] == []
    )

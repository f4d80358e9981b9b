from __future__ import annotations

import numpy as np
import pytest
from helpers import make_updates

from clients.gaussian import Gaussian
from fedrobust.federation import Update

UPDATE: Update = make_updates(1, d=20_000, buffers=3)[0]


def sent(update: Update = UPDATE, std: float | None = None, seed: int = 0) -> Update:
    attack = Gaussian(std)
    attack.bind(rng=np.random.default_rng(seed))
    return attack.poison_update(update)


@pytest.mark.parametrize("std", [0.01, 200.0])
def test_gaussian_differences_are_normal_with_the_std_asked_for(std: float) -> None:
    delta = sent(std=std).delta / std
    assert abs(delta.mean()) < 5 / np.sqrt(20_000) and delta.std() == pytest.approx(1, abs=0.03)
    assert (np.abs(delta) < 1).mean() == pytest.approx(0.6827, abs=0.02)


@pytest.mark.parametrize("length", [1e-3, 7.0])
def test_gaussian_std_matches_the_trained_update_unless_given(length: float) -> None:
    # A mean other than zero belongs to the length as well.
    trained = UPDATE.with_delta(length * (1 + UPDATE.delta))
    made = sent(trained)
    assert np.linalg.norm(made.delta) == pytest.approx(np.linalg.norm(trained.delta), rel=0.03)


def test_gaussian_direction_has_nothing_to_do_with_the_training() -> None:
    one, other = sent().delta, UPDATE.delta
    assert abs(one @ other) / np.linalg.norm(one) / np.linalg.norm(other) < 0.05


def test_gaussian_numbers_follow_from_the_generator() -> None:
    np.testing.assert_array_equal(sent(seed=1).parameters, sent(seed=1).parameters)
    assert not np.array_equal(sent(seed=1).parameters, sent(seed=2).parameters)


def test_gaussian_inputs_and_buffers_stay() -> None:
    before = UPDATE.parameters.copy()
    made = sent(std=1.0)
    np.testing.assert_array_equal(UPDATE.parameters, before)
    np.testing.assert_array_equal(made.buffers, UPDATE.buffers)
    assert made.parameters.dtype == np.float32

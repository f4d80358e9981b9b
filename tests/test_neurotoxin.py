from __future__ import annotations

import numpy as np
import pytest
from helpers import make_updates

from clients.neurotoxin import Neurotoxin
from fedrobust.federation import Update

MALICIOUS, OTHER = make_updates(2, d=200, buffers=2)
HONEST: Update = MALICIOUS.with_delta(OTHER.delta)


def sent(top: float, honest: Update = HONEST) -> Update:
    attack = Neurotoxin(top)
    attack.bind(honest=honest)
    return attack.poison_update(MALICIOUS)


@pytest.mark.parametrize(("top", "count"), [(0.05, 10), (0.5, 100), (0.99, 198), (1e-6, 1)])
def test_neurotoxin_honest_update_largest_coordinates_are_left_unchanged(top: float, count: int) -> None:
    delta = sent(top).delta
    busiest = np.argsort(-np.abs(HONEST.delta))[:count]
    quiet = np.setdiff1d(np.arange(200), busiest)
    assert (delta[busiest] == 0).all()
    np.testing.assert_allclose(delta[quiet], MALICIOUS.delta[quiet], atol=1e-6)


def test_neurotoxin_coordinates_that_honest_training_leaves_alone_are_free() -> None:
    still = np.zeros(200)
    still[:4] = 1
    delta = sent(0.5, HONEST.with_delta(still)).delta
    assert (delta[:4] == 0).all() and (delta[4:] != 0).all()


def test_neurotoxin_input_stays() -> None:
    before = MALICIOUS.parameters.copy()
    made = sent(0.5)
    np.testing.assert_array_equal(MALICIOUS.parameters, before)
    np.testing.assert_array_equal(made.buffers, MALICIOUS.buffers)

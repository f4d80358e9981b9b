from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers import make_updates

from clients.free_rider import FreeRider
from fedrobust.federation import Update

OLD_BUFFERS = np.array([5.0, 6.0], np.float32)
UPDATE = replace(make_updates(1, d=20_000, buffers=2)[0], global_buffers=OLD_BUFFERS)


def sent(round: int = 1, seed: int = 0, **options: float) -> Update:
    attack = FreeRider(**options)
    attack.bind(rng=np.random.default_rng(seed))
    return attack.poison_update(replace(UPDATE, round=round))


def test_free_rider_plain_one_returns_what_it_received() -> None:
    made = sent()
    np.testing.assert_array_equal(made.parameters, UPDATE.global_parameters)
    np.testing.assert_array_equal(made.buffers, OLD_BUFFERS)


@pytest.mark.parametrize(("round", "decay"), [(1, 1.0), (4, 1.0), (4, 0.5), (9, 2.0), (7, 0.0)])
def test_free_rider_disguise_fades_as_the_paper_says(round: int, decay: float) -> None:
    delta = sent(round, noise=0.1, decay=decay).delta
    assert delta.std() == pytest.approx(0.1 * round**-decay, rel=0.03)
    assert abs(delta.mean()) < 5 * delta.std() / np.sqrt(len(delta))


def test_free_rider_nothing_of_the_training_is_in_it() -> None:
    other = replace(UPDATE, parameters=UPDATE.parameters + 3, buffers=UPDATE.buffers + 1)
    for noise in (0.0, 0.1):
        attack = FreeRider(noise)
        made = []
        for update in (UPDATE, other):
            attack.bind(rng=np.random.default_rng(1))
            made.append(attack.poison_update(update))
        np.testing.assert_array_equal(made[0].parameters, made[1].parameters)
        np.testing.assert_array_equal(made[0].buffers, made[1].buffers)


def test_free_rider_noise_follows_from_the_generator() -> None:
    one, same, other = (sent(seed=seed, noise=0.1).parameters for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import make_updates

from clients.constrain import Constrain
from fedrobust.errors import UserError
from fedrobust.federation import Update

BASE, ONE, OTHER = make_updates(3, d=60, buffers=2)
HONEST: Update = BASE.with_delta(ONE.delta)
MALICIOUS: Update = BASE.with_delta(10 * OTHER.delta)


def sent(malicious: Update = MALICIOUS, honest: Update = HONEST, **options: Any) -> Update:
    attack = Constrain(**options)
    attack.honest = honest
    return attack.poison_update(malicious)


def angle(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one.astype(float), other.astype(float)
    return float(1 - one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize("bound", [0.5, 1.0, 2.0])
def test_the_norm_is_cut_to_a_multiple_of_the_honest_one(bound: float) -> None:
    delta = sent(bound=bound).delta
    assert np.linalg.norm(delta) == pytest.approx(bound * np.linalg.norm(HONEST.delta), rel=1e-4)
    assert angle(delta, MALICIOUS.delta) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("bound", [0.1, 1.0])
def test_the_distance_from_the_honest_update_keeps_the_bound(bound: float) -> None:
    apart = sent(measure="distance", bound=bound).delta - HONEST.delta
    assert np.linalg.norm(apart) == pytest.approx(bound * np.linalg.norm(HONEST.delta), rel=1e-4)
    assert angle(apart, MALICIOUS.delta - HONEST.delta) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("bound", [0.05, 0.3, 0.7])
def test_the_angle_to_the_honest_update_keeps_the_bound(bound: float) -> None:
    made = sent(measure="cosine", bound=bound).delta
    assert angle(made, HONEST.delta) == pytest.approx(bound, abs=1e-4)
    # On the way between the two: a combination with positive shares that sum to 1.
    shares = np.linalg.lstsq(
        np.column_stack([HONEST.delta, MALICIOUS.delta]).astype(float), made, rcond=None
    )[0]
    assert (shares > 0).all() and shares.sum() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("measure", ["norm", "distance", "cosine"])
def test_what_is_within_the_bound_goes_as_it_is(measure: str) -> None:
    close = HONEST.with_delta(0.99 * HONEST.delta)
    assert sent(close, measure=measure, bound=1.0) is close
    assert sent(HONEST, measure=measure, bound=1.0) is HONEST


@pytest.mark.parametrize("measure", ["norm", "distance", "cosine"])
def test_an_honest_update_of_zero_makes_no_nan(measure: str) -> None:
    still = HONEST.with_delta(np.zeros(60))
    assert np.isfinite(sent(honest=still, measure=measure).parameters).all()


def test_the_input_stays() -> None:
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
        ({"measure": "nrom"}, "no measure 'nrom'; did you mean 'norm'"),
        ({"bound": 0.0}, "constrain: bound is 0.0"),
        ({"bound": float("nan")}, "constrain: bound"),
        ({"measure": "cosine", "bound": 2.0}, "below 2 for cosine"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Constrain(**options)

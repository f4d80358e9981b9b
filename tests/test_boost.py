from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import make_records, make_updates

from clients.boost import Boost
from fedrobust.errors import UserError
from fedrobust.federation import Role, Updates


@pytest.mark.parametrize("eta", [1.0, 0.5])
@pytest.mark.parametrize("members", [1, 2])
def test_boost_among_settled_hospitals_the_average_becomes_the_attackers_model(
    eta: float, members: int
) -> None:
    # Eq. 3's promise: where the others have stopped moving, G + eta/n sum (L_i - G) = X, or the mean of their
    # X.
    updates = make_updates(8, d=30)
    attack = Boost(eta=eta)
    attack.bind(role=Role("boost", hospitals=8, members=members))
    sent = [attack.poison_update(update) for update in updates[:members]]
    sent += [update.with_delta(np.zeros(30)) for update in updates[members:]]
    step = np.mean([update.delta.astype(float) for update in Updates(sent)], axis=0)
    wanted = np.mean([update.parameters for update in updates[:members]], axis=0)
    np.testing.assert_allclose(updates.global_parameters + eta * step, wanted, atol=1e-5)


def test_boost_given_factor_scales() -> None:
    update = make_updates(1)[0]
    np.testing.assert_allclose(Boost(factor=3.0).poison_update(update).delta, 3 * update.delta, atol=1e-5)


def test_boost_input_stays() -> None:
    update = make_updates(1, buffers=2)[0]
    before = update.parameters.copy()
    sent = Boost(factor=3.0).poison_update(update)
    np.testing.assert_array_equal(update.parameters, before)
    np.testing.assert_array_equal(sent.buffers, update.buffers)


def test_boost_without_the_number_of_hospitals_it_asks_for_a_factor() -> None:
    with pytest.raises(UserError, match="boost: the number of hospitals is not known here; give factor"):
        Boost().check(make_records())
    Boost(factor=2.0).check(make_records())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"factor": 1.0}, "has no effect"),
        ({"factor": 2.0, "eta": 1.0}, "give one of them"),
    ],
)
def test_boost_options_that_contradict_each_other_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Boost(**options)

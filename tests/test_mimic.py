from __future__ import annotations

import numpy as np
import pytest
from helpers import make_records, make_updates

from clients.mimic import Mimic, principal
from fedrobust.errors import UserError
from fedrobust.federation import Role, Updates


@pytest.mark.parametrize("seed", range(5))
def test_mimic_choice_is_that_of_the_principal_direction(seed: int) -> None:
    updates = make_updates(8, d=200, seed=seed)
    deltas = np.array([u.delta for u in updates], np.float64)
    centred = deltas - deltas.mean(0)
    z = np.linalg.svd(centred)[2][0]
    expected = int(np.argmax(np.abs(deltas @ z)))
    assert principal(updates, np.random.default_rng(seed)) == expected


def test_mimic_hospital_with_the_largest_component_is_copied() -> None:
    updates = list(make_updates(7, buffers=2))
    updates[4] = updates[4].with_delta(10 * updates[4].delta)
    attack = Mimic()
    attack.bind(rng=np.random.default_rng(0))
    sent = attack.collude(updates[:2], updates[2:])
    for before, after in zip(updates[:2], sent, strict=True):
        np.testing.assert_array_equal(after.parameters, updates[4].parameters)
        np.testing.assert_array_equal(after.buffers, updates[4].buffers)
        assert (after.node, after.report) == (before.node, before.report)


def test_mimic_fixed_target() -> None:
    updates = make_updates(6)
    attack = Mimic(target=5)
    assert attack.collude(updates[:2], updates[2:])[1].parameters is updates[5].parameters
    with pytest.raises(ValueError, match="hospital 5 is not among the honest"):
        attack.collude(updates[:2], updates[2:4])


def test_mimic_equal_updates_and_no_one_to_copy_are_taken() -> None:
    one = make_updates(1)[0]
    same = Updates([type(one)(n, one.parameters, one.report, one.global_parameters) for n in range(3)])
    assert principal(same, np.random.default_rng(0)) in range(3)
    assert Mimic().collude([one], ()) == [one]


def test_mimic_target_that_is_no_honest_hospital_is_refused() -> None:
    attack = Mimic(target=4)
    attack.bind(role=Role("mimic", 0, 4))
    with pytest.raises(UserError, match="mimic: target is 4, but the hospitals are 0 to 3"):
        attack.check(make_records())
    attack.bind(role=Role("mimic", 0, 6, attackers=(0, 4)))
    with pytest.raises(
        UserError, match="mimic: target is 4, but that hospital is malicious itself, as are .* 0, 4;"
    ):
        attack.check(make_records())

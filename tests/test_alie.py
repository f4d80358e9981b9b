from __future__ import annotations

import warnings

import numpy as np
import pytest
from helpers import make_records, make_updates
from scipy.stats import norm

from clients.alie import Alie, largest_z
from fedrobust.federation import Role


@pytest.mark.parametrize("knowledge", ["colluders", "all"])
def test_alie_is_the_mean_less_z_standard_deviations(knowledge: str) -> None:
    updates = make_updates(8, d=40_000)
    colluders, honest = updates[:3], updates[3:] if knowledge == "all" else ()
    shown = np.array([u.delta for u in honest or colluders], np.float64)
    expected = shown.mean(0) - 1.5 * shown.std(0)
    sent = Alie(z=1.5, knowledge=knowledge).collude(colluders, honest)
    assert [u.node for u in sent] == [0, 1, 2]
    for update in sent:
        np.testing.assert_allclose(update.delta, expected, atol=2e-6)


def test_alie_z_is_the_papers() -> None:
    # 50 workers, 24 corrupted: s = 26 - 24 = 2, z = quantile of 24 / 26 (the example of section 3).
    assert largest_z(50, 24) == pytest.approx(norm.ppf(24 / 26))
    assert largest_z(50, 12) == pytest.approx(norm.ppf(24 / 38))
    for n in range(2, 30):
        for m in range(1, n):
            s = max(1, n // 2 + 1 - m)
            share = (n - m - s) / (n - m)
            assert largest_z(n, m) == pytest.approx(max(0, norm.ppf(share)) if share > 0 else 0)
    assert largest_z(3, 3) == 0


def test_alie_formula_counts_the_federations_hospitals() -> None:
    attack = Alie(knowledge="all")
    attack.bind(role=Role("alie", 0, 12, 0, 5))
    updates = make_updates(12)
    given = Alie(z=largest_z(12, 5), knowledge="all")
    a, b = (x.collude(updates[:5], updates[5:10])[0].parameters for x in (attack, given))
    np.testing.assert_array_equal(a, b)
    assert largest_z(12, 5) != largest_z(10, 5)
    # A colluder whose reply was lost counts as before.
    fewer = attack.collude(updates[:4], updates[5:])[0].parameters
    expected = given.collude(updates[:4], updates[5:])[0].parameters
    np.testing.assert_array_equal(fewer, expected)


def test_alie_order_of_the_honest_does_not_matter() -> None:
    updates = make_updates(7)
    a, b = (
        Alie(z=1, knowledge="all").collude(updates[:2], h)[0].parameters
        for h in (updates[2:], updates[:1:-1])
    )
    np.testing.assert_array_equal(a, b)


def test_alie_without_effect_warns() -> None:
    attack = Alie()
    attack.bind(role=Role("alie", 0, 10, 0, 2))
    with pytest.warns(UserWarning, match=r"2 of 10 hospitals are too few.*z = 0.*alie\(z=1.5\)"):
        attack.check(make_records())
    alone = Alie(z=1)
    alone.bind(role=Role("alie", 0, 10, 0, 1))
    with pytest.warns(UserWarning, match="a single colluder"):
        alone.check(make_records())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        good = Alie()
        good.bind(role=Role("alie", 0, 10, 0, 4))
        good.check(make_records())

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers import make_updates
from references import centered_clipping, differences

from fedrobust.federation import Updates
from strategies.centered_clipping import CenteredClipping


@pytest.mark.parametrize("start", ["previous", "global"])
@pytest.mark.parametrize("iterations", [1, 2, 5])
@pytest.mark.parametrize(
    ("n", "d", "tau"), [(4, 300, 5.0), (10, 10_000, None), (23, 777, 20.0), (40, 500, 1e9)]
)
def test_centered_clipping_several_rounds_follow_the_definition(
    n: int, d: int, tau: float | None, iterations: int, start: str
) -> None:
    rule = CenteredClipping(tau=tau, iterations=iterations, start=start)  # type: ignore[arg-type]
    centre = np.zeros(d)
    for round_ in (1, 2, 3):
        updates = make_updates(n, d, seed=n + round_, round=round_)
        found, _ = rule.combine(updates)
        wanted = centered_clipping(differences(updates), centre, tau, iterations)
        np.testing.assert_allclose(found - updates.global_parameters, wanted, atol=5e-6)
        centre = wanted if start == "previous" else centre


def test_centered_clipping_weights_compose_the_result() -> None:
    updates = make_updates(6, 100, seed=1)
    found, verdict = CenteredClipping(tau=3.0, iterations=4).combine(updates)
    wanted = updates.global_parameters + np.asarray(verdict.weight) @ differences(updates)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_centered_clipping_wide_radius_is_the_mean() -> None:
    updates = make_updates(6, 100, seed=1)
    np.testing.assert_allclose(
        CenteredClipping(tau=1e6).combine(updates)[0], updates.mean(np.ones(6)), atol=1e-6
    )


def test_centered_clipping_update_on_the_centre_gives_no_nan() -> None:
    updates = make_updates(4, 30)
    still = Updates([replace(u, parameters=u.global_parameters) for u in updates])
    found, _ = CenteredClipping().combine(still)
    np.testing.assert_array_equal(found, updates.global_parameters)


def test_centered_clipping_one_attacker_moves_it_by_at_most_tau_over_n() -> None:
    updates = list(make_updates(10, 100, seed=1))
    honest, _ = CenteredClipping(tau=2.0).combine(Updates(updates))
    wild, _ = CenteredClipping(tau=2.0).combine(
        Updates([updates[0].with_delta(np.full(100, 1e6)), *updates[1:]])
    )
    assert np.linalg.norm(wild - honest) <= 2 * 2.0 / 10 + 1e-4

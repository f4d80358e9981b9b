from __future__ import annotations

import numpy as np
import pytest
from helpers import make_updates
from references import arc, differences

from fedrobust.federation import Updates
from strategies.arc import ARC


@pytest.mark.parametrize(
    ("n", "d", "f"), [(4, 300, 1), (5, 1, 2), (10, 10_000, 2), (10, 40, 4), (23, 777, 7), (40, 300, 19)]
)
def test_arc_random_updates_follow_the_definition(n: int, d: int, f: int) -> None:
    updates = make_updates(n, d, seed=n)
    updates = Updates([u.with_delta((1 + u.node % 7) * u.delta) for u in updates])
    found = ARC(f=f).transform(updates)
    np.testing.assert_allclose([u.delta for u in found], arc(differences(updates), f), atol=1e-4)


def test_arc_f_0_returns_the_updates() -> None:
    updates = make_updates(6, 40)
    np.testing.assert_array_equal(ARC(f=0).transform(updates).mean(np.ones(6)), updates.mean(np.ones(6)))


def test_arc_clips_exactly_k_updates() -> None:
    # floor(2 * 2 / 10 * 8) = 3
    updates = Updates([u.with_delta((1 + u.node) * u.delta) for u in make_updates(10, 500)])
    before, after = updates.norms(), ARC(f=2).transform(updates).norms()
    assert (after < before * (1 - 1e-6)).tolist() == [False] * 7 + [True] * 3
    np.testing.assert_allclose(after[7:], before[6], rtol=1e-6)

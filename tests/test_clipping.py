from __future__ import annotations

import numpy as np
import pytest
from helpers import make_updates
from references import clipped, differences

from strategies.clipping import Clipping


@pytest.mark.parametrize(("n", "d", "c"), [(4, 300, 5.0), (5, 1, 0.5), (10, 10_000, 99.9), (40, 300, 1e9)])
def test_clipping_random_updates_follow_the_definition(n: int, d: int, c: float) -> None:
    updates = make_updates(n, d, seed=n)
    found = Clipping(c=c).transform(updates)
    wanted = clipped(differences(updates), c)
    np.testing.assert_allclose([u.delta for u in found], wanted, atol=1e-5)
    assert found.norms().max() <= c * (1 + 1e-9)


def test_clipping_short_updates_are_unchanged() -> None:
    updates = make_updates(4, 50)
    np.testing.assert_allclose(
        [u.parameters for u in Clipping(c=1e3).transform(updates)], [u.parameters for u in updates], atol=1e-6
    )

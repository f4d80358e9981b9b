from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers import make_updates
from references import krum_scores, stacked

from fedrobust.errors import UserError
from fedrobust.federation import Updates
from strategies.krum import Krum
from strategies.multi_krum import MultiKrum


@pytest.mark.parametrize(
    ("n", "d", "f", "m"),
    [(4, 300, 0, None), (10, 10_000, 2, None), (10, 40, 3, 4), (23, 777, 7, 1), (40, 500, 18, None)],
)
def test_multi_krum_random_updates_follow_the_definition(n: int, d: int, f: int, m: int | None) -> None:
    updates = make_updates(n, d, seed=n + f)
    found, verdict = MultiKrum(f=f, m=m).combine(updates)
    chosen = np.argsort(krum_scores(stacked(updates), f))[: n - f if m is None else m]
    np.testing.assert_allclose(found, stacked(updates)[chosen].mean(axis=0), rtol=1e-5, atol=1e-6)
    assert set(np.flatnonzero(verdict.weight)) == set(chosen)
    np.testing.assert_array_equal(verdict.flagged, np.asarray(verdict.weight) == 0)


def test_multi_krum_f_0_is_the_plain_mean_whatever_images_are_reported() -> None:
    updates = make_updates(6, 100, num_examples=[1, 2, 3, 4, 5, 600])
    np.testing.assert_array_equal(MultiKrum(f=0).combine(updates)[0], updates.mean(np.ones(6)))


def test_multi_krum_m_1_is_krum() -> None:
    updates = make_updates(9, 100, seed=4)
    np.testing.assert_array_equal(MultiKrum(f=2, m=1).combine(updates)[0], Krum(f=2).combine(updates)[0])


def test_multi_krum_equal_scores_keep_the_lower_numbers() -> None:
    update = make_updates(1, 50)[0]
    updates = Updates([replace(update, node=node) for node in range(9)])
    assert list(np.flatnonzero(MultiKrum(f=3).combine(updates)[1].weight)) == [0, 1, 2, 3, 4, 5]


def test_multi_krum_m_above_the_hospitals_is_refused() -> None:
    with pytest.raises(UserError, match="multi-krum: m=50 updates cannot be kept of 10 hospitals"):
        MultiKrum(m=50).check(10)
    MultiKrum(m=10).check(10)

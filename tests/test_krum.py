from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers import make_updates
from references import krum_scores, stacked

from fedrobust.federation import Updates
from strategies.krum import Krum


@pytest.mark.parametrize(
    ("n", "d", "f"), [(4, 300, 0), (5, 1, 1), (10, 10_000, 2), (10, 40, 3), (23, 777, 7), (40, 500, 18)]
)
def test_krum_random_updates_follow_the_definition(n: int, d: int, f: int) -> None:
    updates = make_updates(n, d, seed=n + f)
    found, verdict = Krum(f=f).combine(updates)
    scores = krum_scores(stacked(updates), f)
    np.testing.assert_allclose(verdict.score, scores, rtol=1e-5)
    np.testing.assert_array_equal(found, updates[int(np.argmin(scores))].parameters)
    np.testing.assert_array_equal(verdict.weight, np.arange(n) == np.argmin(scores))
    assert not np.any(verdict.flagged)


def test_krum_counts_n_f_2_neighbours() -> None:
    places = [0.0, 1.0, 2.0, 10.0, 11.0, 12.0, 13.0]
    base = make_updates(7, 1)
    updates = Updates([u.with_delta([p]) for u, p in zip(base, places, strict=True)])
    score = np.asarray(Krum(f=2).combine(updates)[1].score)
    # n - f - 2 = 3 nearest others: of 0 they are 1, 2 and 10.
    np.testing.assert_allclose(score[0], 1 + 4 + 100, rtol=1e-5)
    np.testing.assert_allclose(score[4], 1 + 1 + 4, rtol=1e-4)


def test_krum_equal_scores_choose_the_lower_number() -> None:
    update = make_updates(1, 20)[0]
    updates = Updates([replace(update, node=node) for node in (7, 3, 5, 9, 11)])
    assert np.argmax(Krum(f=1).combine(updates)[1].weight) == 0


def test_krum_outlier_is_not_chosen_and_affects_no_other_score() -> None:
    updates = list(make_updates(9, 400, seed=3))
    wanted = np.asarray(Krum(f=1).combine(Updates(updates[:8]))[1].score)
    updates[8] = updates[8].with_delta(np.full(400, 1e7))
    verdict = Krum(f=2).combine(Updates(updates))[1]
    assert np.argmax(verdict.score) == 8
    np.testing.assert_allclose(np.asarray(verdict.score)[:8], wanted, rtol=1e-6)

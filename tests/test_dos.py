from __future__ import annotations

import numpy as np
import pytest
from helpers import make_updates
from references import copod, cosine_distances, differences, distances

from fedrobust.federation import Updates
from strategies.dos import DOS, _copod


@pytest.mark.parametrize(("n", "d"), [(4, 300), (10, 10_000), (23, 777), (40, 100)])
def test_dos_random_updates_follow_the_definition(n: int, d: int) -> None:
    updates = make_updates(n, d, seed=n)
    found, verdict = DOS().combine(updates)
    x = differences(updates)
    score = (copod(distances(x)) + copod(cosine_distances(x))) / 2
    wanted = np.exp(-score) / np.exp(-score).sum()
    np.testing.assert_allclose(verdict.score, score, rtol=1e-9)
    np.testing.assert_allclose(verdict.weight, wanted, rtol=1e-6)
    np.testing.assert_allclose(found - updates.global_parameters, wanted @ x, atol=1e-5)


def test_copod_ties_count_on_both_sides() -> None:
    points = np.array([[1.0], [1.0], [1.0], [5.0]])
    # The skewness is positive, so the right tail counts: all points are at least as large as 1, one of four
    # as 5. Of the ones 3/4 are at most as large, and half of that logarithm is more than none.
    np.testing.assert_allclose(_copod(points), [-np.log(3 / 4) / 2] * 3 + [-np.log(1 / 4)])


def test_copod_dimension_without_skewness_counts_on_both_sides() -> None:
    points = np.array([[0.0], [1.0], [2.0]])
    both = -np.log(1 / 3) - np.log(1)
    np.testing.assert_allclose(_copod(points), [both, -2 * np.log(2 / 3), both])


def test_dos_outlier_loses_its_weight() -> None:
    updates = list(make_updates(10, 500, seed=1))
    wild = Updates([updates[0].with_delta(20 * updates[0].delta), *updates[1:]])
    verdict = DOS().combine(wild)[1]
    assert np.argmax(verdict.score) == 0 and np.asarray(verdict.weight)[0] < 0.01

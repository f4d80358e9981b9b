from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers import make_updates
from references import differences, nnm

from fedrobust.federation import Updates
from strategies.nnm import NNM


@pytest.mark.parametrize(
    ("n", "d", "f"), [(4, 300, 1), (5, 1, 2), (10, 10_000, 2), (10, 40, 4), (23, 777, 7), (40, 300, 19)]
)
def test_nnm_random_updates_follow_the_definition(n: int, d: int, f: int) -> None:
    updates = make_updates(n, d, seed=n, buffers=3)
    mixed = NNM(f=f).transform(updates)
    wanted = nnm(differences(updates), f)
    np.testing.assert_allclose([u.delta for u in mixed], wanted, atol=1e-5)
    np.testing.assert_allclose(mixed.gram(), wanted @ wanted.T, rtol=1e-5, atol=1e-4)
    assert mixed.nodes == updates.nodes and [u.report for u in mixed] == [u.report for u in updates]


def test_nnm_f_0_makes_every_update_the_mean() -> None:
    updates = make_updates(5, 60)
    for update in NNM(f=0).transform(updates):
        np.testing.assert_allclose(update.parameters, updates.mean(np.ones(5)), atol=1e-6)


def test_nnm_weights_are_traced_to_the_mixed_hospitals() -> None:
    from fedrobust.federation import Verdict

    updates = make_updates(5, 40, seed=1)
    mixed = NNM(f=2).transform(updates)
    verdict = mixed.trace(Verdict([0, 1, 0, 0, 0], score=[5, 4, 3, 2, 1], flagged=[1, 0, 0, 0, 0]))
    assert np.count_nonzero(verdict.weight) == 3 and np.asarray(verdict.weight)[1] > 0
    np.testing.assert_array_equal(verdict.score, [5, 4, 3, 2, 1])
    assert np.flatnonzero(verdict.flagged).tolist() == [0]
    np.testing.assert_allclose(updates.mean(verdict.weight), mixed[1].parameters, atol=1e-6)


def test_nnm_tie_mixes_the_lower_number() -> None:
    start = make_updates(3, 3)
    # The first is at the same distance from both others.
    rows = [np.zeros(3), np.array([3.0, 0, 0]), np.array([0, 3.0, 0])]
    zero = np.zeros(3, np.float32)
    updates = Updates(
        [
            replace(u, parameters=row.astype(np.float32), global_parameters=zero)
            for u, row in zip(start, rows, strict=True)
        ]
    )
    np.testing.assert_allclose(NNM(f=1).transform(updates)[0].delta, [1.5, 0, 0])

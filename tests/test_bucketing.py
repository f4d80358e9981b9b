from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers import make_updates
from references import differences

from fedrobust.federation import Updates, Verdict
from fedrobust.seeding import generator
from strategies.bucketing import Bucketing


@pytest.mark.parametrize(
    ("n", "d", "s"), [(4, 300, 2), (5, 1, 2), (10, 10_000, 3), (23, 777, 23), (40, 300, 50)]
)
def test_bucketing_random_updates_follow_the_definition(n: int, d: int, s: int) -> None:
    updates = make_updates(n, d, seed=n, buffers=2)
    groups = Bucketing(s=s).transform(updates)
    order, x = generator(0, "bucketing", 1).permutation(n), differences(updates)
    wanted = {min(part): x[part].mean(axis=0) for part in np.split(order, range(s, n, s)) if len(part)}
    assert groups.nodes == tuple(sorted(wanted)) and len(groups) == -(-n // s) == Bucketing(s=s).check(n)
    for group in groups:
        np.testing.assert_allclose(group.delta, wanted[group.node], atol=1e-6)


def test_bucketing_groups_change_with_round_and_seed_only() -> None:
    updates = make_updates(10, 5)

    def nodes(seed: int, round_: int) -> tuple[int, ...]:
        return Bucketing().transform(Updates([replace(u, round=round_) for u in updates], seed)).nodes

    assert nodes(0, 1) == nodes(0, 1)
    assert len({nodes(0, 1), nodes(0, 2), nodes(1, 1), nodes(0, 3)}) > 1


def test_bucketing_s_1_returns_the_updates() -> None:
    updates = make_updates(6, 30)
    groups = Bucketing(s=1).transform(updates)
    np.testing.assert_allclose([u.parameters for u in groups], [u.parameters for u in updates], atol=1e-6)


def test_bucketing_verdict_is_traced_to_the_hospitals() -> None:
    updates = make_updates(5, 30)
    groups = Bucketing().transform(updates)
    verdict = groups.trace(
        Verdict([1, 1, 0], score=[1, 2, 3], flagged=[0, 0, 1], why=["a", "b", "c"])
    ).checked(5)
    assert sorted(np.asarray(verdict.score)).count(3) == np.sum(verdict.flagged)
    np.testing.assert_array_equal(np.asarray(verdict.flagged), np.asarray(verdict.weight) == 0)
    np.testing.assert_allclose(updates.mean(verdict.weight), groups.mean([1, 1, 0]), atol=1e-6)


def test_bucketing_group_reports_sum_and_mean() -> None:
    values = [{"loss": float(k), "own": 1.0} if k else {"loss": 0.0} for k in range(4)]
    updates = make_updates(4, 3, values=values, num_examples=[1, 2, 4, 8])
    groups = Bucketing(s=4).transform(updates)
    assert groups.num_examples.tolist() == [15] and groups.reported("loss").tolist() == [1.5]
    assert np.isnan(groups.reported("own")).all()

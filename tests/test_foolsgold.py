from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers import make_updates
from references import differences, foolsgold

from fedrobust.federation import Updates
from strategies.foolsgold import FoolsGold


def sybils(round_: int, n: int = 8, d: int = 400) -> Updates:
    """Return updates of which 2 and 5 point the same way in every round, and 0 and 1 somewhat."""
    updates = list(make_updates(n, d, seed=round_, round=round_))
    common = np.random.default_rng(99).standard_normal(d)
    deltas = [u.delta.astype(np.float64) for u in updates]
    for node in (2, 5):
        deltas[node] = common + 0.1 * deltas[node]
    deltas[1] = deltas[1] + 0.5 * deltas[0]
    return Updates([u.with_delta(delta) for u, delta in zip(updates, deltas, strict=True)])


@pytest.mark.parametrize("confidence", [0.5, 1.0, 2.0])
def test_foolsgold_several_rounds_follow_the_pseudocode(confidence: float) -> None:
    rule, history = FoolsGold(confidence=confidence), np.zeros((8, 400))
    for round_ in (1, 2, 3):
        updates = sybils(round_)
        history += differences(updates)
        found, verdict = rule.combine(updates)
        wanted = foolsgold(history, confidence)
        np.testing.assert_allclose(verdict.weight, wanted, atol=1e-5)
        mean = (wanted[:, None] * differences(updates)).sum(axis=0) / wanted.sum()
        np.testing.assert_allclose(found - updates.global_parameters, mean, atol=1e-5)


def test_foolsgold_sybils_lose_their_weight_and_others_keep_it() -> None:
    rule = FoolsGold()
    for round_ in range(1, 6):
        verdict = rule.combine(sybils(round_))[1]
    weight = np.asarray(verdict.weight)
    assert weight[[2, 5]].max() < 0.01 and weight[[0, 3, 4, 6, 7]].min() > 0.8


def test_foolsgold_hospital_that_misses_a_round_keeps_its_history() -> None:
    rule, other = FoolsGold(), FoolsGold()
    rule.combine(sybils(1))
    other.combine(sybils(1))
    rule.combine(Updates(sybils(2)[:5]))
    assert set(rule.state()["sums"]) == set(range(8))
    np.testing.assert_array_equal(rule.state()["sums"][7], other.state()["sums"][7])


def test_foolsgold_long_updates_are_compared_by_sketches() -> None:
    updates = make_updates(4, 60_000, seed=1)
    copy = replace(updates[0], node=9)
    weight = np.asarray(FoolsGold().combine(Updates([*updates, copy]))[1].weight)
    assert weight[[0, 4]].max() == 0 and weight[1:4].min() > 0.9


def test_foolsgold_one_hospital_alone_is_the_result() -> None:
    updates = make_updates(1, 30)
    np.testing.assert_allclose(FoolsGold().combine(updates)[0], updates[0].parameters)

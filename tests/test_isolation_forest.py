"""Isolation-forest weighting: whom it flags, whom it leaves alone, and that weights come back."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fedrobust.errors import UserError
from fedrobust.federation import Report, Update, Updates, Verdict
from strategies.isolation_forest import CEILING, IsolationForestWeighting, _class_excess, _judge, _spreads

ZERO = np.zeros(1, np.float32)


def losses_of(
    received: np.ndarray, training: np.ndarray, number: int, counts: np.ndarray | None = None
) -> Updates:
    """Make a round in which each hospital reports these losses by class, shape (n, K)."""
    n, classes = received.shape
    held = np.full((n, classes), 20.0) if counts is None else counts
    updates = []
    for node in range(n):
        known = held[node] > 0
        values: dict[str, float | tuple[float, ...]] = {
            "loss": float(training[node]),
            "received-loss": float(np.average(received[node][known], weights=held[node][known])),
            "class-losses": tuple(np.where(known, received[node], np.nan).tolist()),
            "class-counts": tuple(held[node].tolist()),
        }
        updates.append(Update(node, ZERO, Report(int(held[node].sum()), values), ZERO, round=number))
    return Updates(updates)


def play(
    defence: IsolationForestWeighting, rounds: int, bad: tuple[int, ...] = (), n: int = 10, seed: int = 0
) -> list[Verdict]:
    """Play rounds in which the bad hospitals' losses are three times the others'."""
    draw = np.random.default_rng(seed)
    verdicts = []
    for number in range(1, rounds + 1):
        received = draw.normal(1.0, 0.15, (n, 4))
        training = draw.normal(0.8, 0.1, n)
        for node in bad:
            received[node] *= 3
            training[node] *= 3
        verdicts.append(defence.weigh(losses_of(received, training, number)).checked(n))
    return verdicts


def test_persistent_high_losses_lose_their_weight_and_nobody_else_does() -> None:
    last = play(IsolationForestWeighting(), 15, bad=(2, 7))[-1]
    share = np.asarray(last.weight) / np.sum(last.weight)
    assert np.flatnonzero(last.flagged).tolist() == [2, 7]
    assert share[[2, 7]].max() < 0.02
    assert np.delete(share, [2, 7]).min() > 0.12
    assert last.why is not None and "spreads high" in last.why[2] and last.why[0] == ""


@pytest.mark.parametrize("n", [4, 5, 10, 20])
def test_honest_hospitals_are_rarely_flagged(n: int) -> None:
    flags = [
        np.asarray(v.flagged).mean()
        for s in range(10)
        for v in play(IsolationForestWeighting(), 20, n=n, seed=s)
    ]
    assert np.mean(flags) <= 0.01


def test_one_bad_round_is_no_verdict() -> None:
    defence = IsolationForestWeighting()
    play(defence, 10)
    received, training = np.ones((10, 4)), np.ones(10)
    received += np.random.default_rng(1).normal(0, 0.1, received.shape)
    received[3] += 5
    verdict = defence.weigh(losses_of(received, training, 11)).checked(10)
    assert not np.asarray(verdict.flagged).any()


def test_weights_recover_when_the_losses_do() -> None:
    defence = IsolationForestWeighting()
    assert np.asarray(play(defence, 12, bad=(4,))[-1].flagged)[4]
    after = play(defence, 15, seed=1)
    assert not np.asarray(after[-1].flagged).any()
    assert np.asarray(after[-1].weight)[4] == 1.0


def test_low_losses_are_no_offence() -> None:
    defence = IsolationForestWeighting()
    draw = np.random.default_rng(0)
    for number in range(1, 20):
        received = draw.normal(1.0, 0.1, (10, 4))
        received[5] *= 0.05
        verdict = defence.weigh(losses_of(received, received.mean(1), number)).checked(10)
    assert not np.asarray(verdict.flagged).any()


def test_an_unusual_mix_of_classes_is_no_offence() -> None:
    """A hospital that holds only the hardest class has five times the others' plain loss."""
    defence = IsolationForestWeighting()
    draw = np.random.default_rng(0)
    level = np.array([0.2, 0.3, 0.5, 3.0])
    counts = np.full((10, 4), 20.0)
    counts[:, 3] = 2
    counts[6] = [0, 0, 0, 60]
    for number in range(1, 20):
        received = level * draw.normal(1.0, 0.1, (10, 4))
        updates = losses_of(received, np.full(10, 1.0), number, counts)
        verdict = defence.weigh(updates).checked(10)
    plain = updates.reported("received-loss")
    assert plain[6] > 4 * np.median(plain)
    assert not np.asarray(verdict.flagged).any()


def test_class_excess_against_its_definition() -> None:
    draw = np.random.default_rng(3)
    received, counts = draw.gamma(2, 1, (6, 3)), draw.integers(0, 5, (6, 3)).astype(float)
    counts[:, 0] += 1
    updates = losses_of(received, np.ones(6), 1, counts)
    expected = np.zeros(6)
    for k in range(3):
        images = [received[i, k] for i in range(6) for _ in range(int(counts[i, k]))]
        if (counts[:, k] > 0).sum() < 2:
            continue
        middle = sorted(images)[(len(images) - 1) // 2]
        expected += np.where(counts[:, k] > 0, counts[:, k] * (received[:, k] - middle), 0)
    np.testing.assert_allclose(_class_excess(updates)[0], expected / counts.sum(1), atol=1e-12)


def test_the_order_of_the_hospitals_does_not_matter() -> None:
    draw = np.random.default_rng(0)
    received, training = draw.gamma(3, 1, (8, 4)), draw.gamma(3, 1, 8)
    given = losses_of(received, training, 1)
    turned = Updates(list(given)[::-1])
    first, second = (IsolationForestWeighting().weigh(u).checked(8) for u in (given, turned))
    np.testing.assert_array_equal(first.score, second.score)


def test_spreads() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0, 100.0, np.nan])
    got = _spreads(values, 0.0)
    assert got[0] == got[1] == got[2] == 0.0
    assert got[3] == pytest.approx(1 / 1.4826)
    assert got[4] == got[5] == CEILING
    assert not _spreads(np.full(4, np.nan), 1.0).any()
    # Equal losses have no spread; the floor keeps rounding errors from counting.
    assert _spreads(np.array([1.0, 1.0, 1.0, 1.0 + 1e-9]), 1.0).max() < 1e-6


def test_p_is_the_share_of_the_reference_and_keeps_the_stated_rate() -> None:
    low, p_low = _judge(np.zeros((1, 2)), 10)
    high, p_high = _judge(np.array([[CEILING, CEILING]]), 10)
    assert low[0] < high[0]
    assert p_low[0] > 0.2 and p_high[0] < 0.002


def test_silence_while_others_speak_counts_as_the_worst() -> None:
    defence = IsolationForestWeighting()
    for number in range(1, 15):
        received = np.random.default_rng(number).normal(1.0, 0.1, (10, 4))
        whole = list(losses_of(received, received.mean(1), number))
        whole[1] = Update(1, ZERO, Report(80, {}), ZERO, round=number)
        verdict = defence.weigh(Updates(whole)).checked(10)
    assert np.flatnonzero(verdict.flagged).tolist() == [1]


def test_without_losses_by_class_and_with_few_hospitals_it_still_works() -> None:
    for n in (1, 2, 3, 6):
        updates = Updates([Update(i, ZERO, Report(5, {"loss": 1.0 + i}), ZERO) for i in range(n)])
        verdict = IsolationForestWeighting().weigh(updates).checked(n)
        assert np.all(np.asarray(verdict.weight) > 0)
    nothing = Updates([Update(i, ZERO, Report(5), ZERO) for i in range(5)])
    assert not np.asarray(IsolationForestWeighting().weigh(nothing).checked(5).flagged).any()


def test_state_survives_a_restart() -> None:
    whole, first = IsolationForestWeighting(), IsolationForestWeighting()
    play(whole, 6, bad=(1,))
    play(first, 6, bad=(1,))
    second = IsolationForestWeighting()
    second.load_state(json.loads(json.dumps(first.state())))
    expected, got = (play(d, 3, bad=(1,), seed=9)[-1] for d in (whole, second))
    np.testing.assert_array_equal(expected.weight, got.weight)


@pytest.mark.parametrize("options", [{"false_flag_rate": 0}, {"false_flag_rate": 0.6}, {"memory": 1.0}])
def test_options_are_checked(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match="isolation-forest"):
        IsolationForestWeighting(**options)

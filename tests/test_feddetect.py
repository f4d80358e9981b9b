from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pytest
from helpers import reporting, restored
from sklearn.ensemble import IsolationForest

from fedrobust.errors import UserError
from fedrobust.federation import Verdict
from fedrobust.plugins import instantiate
from strategies import feddetect
from strategies.feddetect import FedDetect

#: Two losses that the forest singles out, and two between them: as many outliers as half of the hospitals.
TWO_OF_FOUR = (0.1, 3.0, 6.0, 9.0)
ONE_OF_FIVE = (1.0, 1.01, 0.99, 1.02, 9.0)


def outliers(losses: Sequence[float]) -> list[int]:
    """Return whom the authors' forest singles out."""
    points = [[0.0, abs(loss)] for loss in losses]
    forest = IsolationForest(max_samples=len(points), contamination="auto", random_state=0)
    return [k for k, mark in enumerate(forest.fit_predict(points)) if mark == -1]


def replay(
    rounds: Sequence[Sequence[float]], decay: float, warm_up: int
) -> list[tuple[list[float], list[int]]]:
    """Return each round's weights and flags, written from the paper's algorithm and nothing else."""
    n = len(rounds[0])
    weights, counts, replayed = [1 / n] * n, [0] * n, []
    for number, losses in enumerate(rounds, start=1):
        found = outliers(losses) if number > warm_up else []
        if number <= warm_up or len(found) >= n // 2:
            found = []
        for k in found:
            counts[k] += 1
            weights[k] *= decay ** counts[k]
        weights = [weight / sum(weights) for weight in weights]
        replayed.append((list(weights), found))
    return replayed


def shares(verdict: Verdict) -> np.ndarray:
    """Return the weights scaled to sum to 1."""
    weight = np.asarray(verdict.weight, np.float64)
    return weight / weight.sum()


def flagged(verdict: Verdict) -> list[int]:
    """Return the positions of the flagged hospitals."""
    return [int(k) for k in np.flatnonzero(verdict.flagged)]  # type: ignore[arg-type]


def run(
    defence: FedDetect,
    losses: Sequence[float],
    times: int = 1,
    start: int = 1,
    nodes: Sequence[int] | None = None,
) -> Verdict:
    """Run rounds of the same losses; return the last verdict."""
    for number in range(start, start + times):
        verdict = defence.weigh(reporting(losses, number, nodes))
    return verdict


def test_feddetect_fourteen_rounds_with_a_restart_follow_the_authors_code() -> None:
    rng = np.random.default_rng(0)
    rounds = (0.5 + rng.random((14, 6)) + 3 * (rng.random((14, 6)) < 0.1)).tolist()
    wanted = replay(rounds, decay=0.8, warm_up=2)
    defence, restarted = FedDetect(decay=0.8, warm_up=2), FedDetect(decay=0.8, warm_up=2)
    for number, losses in enumerate(rounds, start=1):
        verdict = defence.weigh(reporting(losses, number))
        weights, found = wanted[number - 1]
        np.testing.assert_allclose(shares(verdict), weights, rtol=1e-9)
        assert flagged(verdict) == found, f"round {number}"
        if number == 8:
            restarted.load_state(restored(defence.state()))
        if number in (9, 10):
            again = restarted.weigh(reporting(losses, number))
            np.testing.assert_array_equal(again.weight, verdict.weight)
            np.testing.assert_array_equal(again.score, verdict.score)
            assert flagged(again) == found and again.why == verdict.why
    # The replay must have seen all of it: verdicts, rounds without one, and rounds where the guard held.
    marks = [len(found) for _, found in wanted[2:]]
    assert 0 in marks and max(marks) > 0
    assert any(len(outliers(losses)) >= 3 for losses in rounds[2:])


def test_feddetect_state_written_and_read_back_is_the_same() -> None:
    defence = FedDetect(warm_up=0)
    run(defence, ONE_OF_FIVE, times=2)
    state = restored(defence.state())
    other = FedDetect(warm_up=0)
    other.load_state(state)
    assert other.state() == defence.state() == state
    # Without the state, it would start from equal weights again.
    assert not np.allclose(
        shares(run(other, ONE_OF_FIVE, start=3)), shares(run(FedDetect(warm_up=0), ONE_OF_FIVE))
    )


@pytest.mark.parametrize("warm_up", [0, 3])
def test_feddetect_in_the_warm_up_flags_no_hospital(warm_up: int) -> None:
    assert outliers(ONE_OF_FIVE) == [4]
    defence = FedDetect(warm_up=warm_up)
    for number in range(1, warm_up + 1):
        verdict = run(defence, ONE_OF_FIVE, start=number)
        assert flagged(verdict) == []
        np.testing.assert_allclose(shares(verdict), 0.2)
        assert np.argmax(verdict.score) == 4  # type: ignore[arg-type]
    verdict = run(defence, ONE_OF_FIVE, start=warm_up + 1)
    assert flagged(verdict) == [4] and shares(verdict)[4] < 0.2


def test_feddetect_outliers_of_half_the_hospitals_give_no_verdict() -> None:
    assert outliers(TWO_OF_FOUR) == [0, 3]
    verdict = run(FedDetect(warm_up=0), TWO_OF_FOUR)
    assert flagged(verdict) == []
    np.testing.assert_allclose(shares(verdict), 0.25)
    # One more outlier than the rule can bear among 5 is none among 6.
    losses = (0.1, 1.0, 1.0, 1.0, 1.0, 9.0)
    assert outliers(losses) == [0, 5]
    assert flagged(run(FedDetect(warm_up=0), losses)) == [0, 5]


@pytest.mark.parametrize("losses", [(1.0,), (1.0, 5.0), (1.0, 1.0, 9.0)])
def test_feddetect_three_hospitals_or_fewer_get_no_verdict(losses: tuple[float, ...]) -> None:
    verdict = run(FedDetect(warm_up=0), losses, times=2)
    assert flagged(verdict) == []
    np.testing.assert_allclose(shares(verdict), 1 / len(losses))


@pytest.mark.parametrize("decay", [0.9, 0.5, 1.0])
def test_feddetect_after_c_flags_factor_is_d_to_c_times_c_plus_1_half(decay: float) -> None:
    defence = FedDetect(decay=decay, warm_up=0)
    for c in range(1, 6):
        verdict = run(defence, ONE_OF_FIVE, start=c)
        factor = decay ** (c * (c + 1) / 2)
        np.testing.assert_allclose(shares(verdict), np.array([1, 1, 1, 1, factor]) / (4 + factor), rtol=1e-9)
    assert verdict.why == ["", "", "", "", "flagged 5 times so far"]


def test_feddetect_weights_never_recover() -> None:
    defence = FedDetect(warm_up=0)
    run(defence, ONE_OF_FIVE)
    calm = (1.0, 1.0, 1.0, 1.0, 1.0)
    verdict = run(defence, calm, start=2, times=3)
    np.testing.assert_allclose(shares(verdict)[4], 0.9 / 4.9)


def test_feddetect_low_and_high_losses_are_outliers() -> None:
    losses = (0.01, 5.0, 5.1, 5.2, 5.3)
    assert outliers(losses) == [0]
    assert flagged(run(FedDetect(warm_up=0), losses)) == [0]


def test_feddetect_uses_the_absolute_loss() -> None:
    # A generator's loss may be negative, and a forged one as well: -9 and 9 are one point to the authors'
    # rule.
    losses = (-9.0, 9.0, 9.1, 8.9, 0.5)
    assert outliers(losses) == [4]
    verdict = run(FedDetect(warm_up=0), losses)
    assert flagged(verdict) == [4]
    same = run(FedDetect(warm_up=0), [abs(loss) for loss in losses])
    np.testing.assert_array_equal(verdict.weight, same.weight)


def test_feddetect_uses_the_last_mini_batch() -> None:
    assert FedDetect.trusts == {"loss"}
    with_others = reporting(ONE_OF_FIVE, 1)
    for update, loss in zip(with_others, (9, 1, 1, 1, 1), strict=True):
        update.report.values["loss"] = float(loss)  # type: ignore[index]
        update.report.values["received-loss"] = float(loss)  # type: ignore[index]
    assert flagged(FedDetect(warm_up=0).weigh(with_others)) == [4]


def test_feddetect_result_is_the_weighted_mean() -> None:
    defence = FedDetect(warm_up=0)
    updates = reporting(ONE_OF_FIVE, 1)
    parameters, verdict = defence.combine(updates)
    np.testing.assert_array_equal(parameters, updates.mean([1, 1, 1, 1, 0.9]))
    np.testing.assert_allclose(shares(verdict), np.array([1, 1, 1, 1, 0.9]) / 4.9)


def test_feddetect_hospital_that_misses_a_round_keeps_weight_and_count() -> None:
    defence, complete = FedDetect(warm_up=0), FedDetect(warm_up=0)
    run(defence, ONE_OF_FIVE)
    run(complete, ONE_OF_FIVE)
    verdict = run(defence, (1.0, 1.0, 1.0, 1.0), start=2, nodes=[0, 1, 2, 3])
    np.testing.assert_allclose(shares(verdict), 0.25)
    back = run(defence, ONE_OF_FIVE, start=3)
    np.testing.assert_allclose(shares(back), shares(run(complete, ONE_OF_FIVE, start=2)), rtol=1e-9)
    assert (back.why or [])[4] == "flagged 2 times so far"


def test_feddetect_history_follows_the_hospital_not_its_position() -> None:
    defence = FedDetect(warm_up=0)
    run(defence, ONE_OF_FIVE, nodes=[0, 1, 2, 3, 7])
    verdict = run(defence, (1.0,) * 5, start=2, nodes=[1, 2, 3, 7, 9])
    share = shares(verdict)
    assert share[3] == pytest.approx(0.9 * share[0]) and flagged(verdict) == []


def test_feddetect_late_hospital_starts_with_the_uniform_weight() -> None:
    # All weights start at 1/N: who missed the first round has done nothing to deserve less.
    defence = FedDetect(warm_up=5)
    run(defence, (1.0,) * 3, nodes=[0, 1, 2])
    verdict = run(defence, (1.0,) * 4, start=2, nodes=[0, 1, 2, 3])
    np.testing.assert_allclose(shares(verdict), 0.25)


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), None])
def test_feddetect_loss_that_is_not_finite_counts_as_the_highest(loss: float | None) -> None:
    calm, wanted = (1.0, 1.1, 0.9, 1.05), run(FedDetect(warm_up=0), (1.0, 1.1, 0.9, 1.05, 1.1))
    updates = reporting((*calm, np.nan if loss is None else loss), 1)
    if loss is None:
        updates[4].report.values.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        verdict = FedDetect(warm_up=0).weigh(updates)
    np.testing.assert_array_equal(verdict.weight, wanted.weight)
    np.testing.assert_array_equal(verdict.score, wanted.score)


def test_feddetect_huge_loss_is_an_outlier() -> None:
    # The forest works in float32, where 1e300 is infinite.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        verdict = run(FedDetect(warm_up=0), (1.0, 1.1, 0.9, 1.05, 1e300))
    assert flagged(verdict) == [4]


def test_feddetect_without_losses_gives_no_verdict() -> None:
    verdict = run(FedDetect(warm_up=0), (float("nan"),) * 5)
    assert flagged(verdict) == []
    np.testing.assert_allclose(shares(verdict), 0.2)


def test_feddetect_weights_that_underflow_do_not_end_the_run() -> None:
    defence = FedDetect(decay=1e-120, warm_up=0)
    for number in range(1, 16):
        losses = [1.0, 1.01, 0.99, 1.02, 1.0]
        losses[number % 5] = 9.0
        weight = np.asarray(defence.weigh(reporting(losses, number)).weight)
        assert np.isfinite(weight).all() and (weight >= 0).all()


def test_feddetect_after_hundreds_of_flags_follows_the_authors_code(monkeypatch: pytest.MonkeyPatch) -> None:
    # In place of the forest, which takes its time: the highest loss.
    monkeypatch.setattr(feddetect, "_outliers", lambda losses: (losses, losses == losses.max()))
    # One hospital at a time is flagged, with every power of the decay; in the authors' rule each round scales
    # to a sum of 1.
    rng = np.random.default_rng(0)
    defence, wanted, counts = FedDetect(decay=0.5, warm_up=0), np.full(5, 0.2), np.zeros(5, int)
    for number in range(1, 401):
        losses = [1.0, 1.01, 0.99, 1.02, 1.0]
        losses[rng.integers(5)] = 9.0
        verdict = defence.weigh(reporting(losses, number))
        out = np.asarray(verdict.flagged)
        counts += out
        wanted[out] *= 0.5 ** counts[out]
        wanted /= wanted.sum()
        np.testing.assert_allclose(verdict.weight, wanted, rtol=1e-9, atol=1e-300)
    assert counts.min() > 45 and np.asarray(verdict.weight).max() > 0.5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"decay": 0.0}, "decay"),
        ({"decay": 1.1}, "decay"),
        ({"decay": float("nan")}, "decay"),
        ({"warm_up": -1}, "warm_up"),
        ({"warm_up": 1.5}, "warm_up"),
    ],
)
def test_feddetect_options_out_of_range_are_refused(options: dict[str, float], words: str) -> None:
    with pytest.raises(UserError, match=f"feddetect: {words}"):
        instantiate(FedDetect, options, "feddetect")


def test_feddetect_inputs_are_unchanged() -> None:
    updates = reporting(ONE_OF_FIVE, 1)
    kept = [(update.parameters.copy(), dict(update.report.values)) for update in updates]
    FedDetect(warm_up=0).combine(updates)
    for update, (parameters, values) in zip(updates, kept, strict=True):
        np.testing.assert_array_equal(update.parameters, parameters)
        assert update.report.values == values

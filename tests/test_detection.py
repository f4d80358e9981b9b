from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from fedrobust.evaluation import detection
from fedrobust.results.records import VerdictLine


def detection_summary(
    verdicts: Sequence[VerdictLine], malicious: Sequence[int], clients: int | None = None
) -> dict[str, Any]:
    """Return the summary; all hospitals are those with a verdict unless their number is given."""
    seen = {number for verdict in verdicts for number in verdict.hospitals}
    return dict(detection.detection_summary(verdicts, malicious, clients or max(seen, default=0) + 1))


def verdict(
    scores: Sequence[float | None],
    flagged: Sequence[int] = (),
    hospitals: Sequence[int] | None = None,
    weights: Sequence[float] | None = None,
) -> VerdictLine:
    """Return one round's verdict; weights are equal unless given."""
    chosen = list(range(len(scores))) if hospitals is None else list(hospitals)
    equal = [1 / len(scores)] * len(scores) if scores else []
    return VerdictLine.of(round=1, hospitals=chosen, weights=weights or equal, scores=scores, flagged=flagged)


def test_detection_of_two_rounds_equals_a_hand_computation() -> None:
    first = verdict([0.1, 0.9, 0.5, 0.2], flagged=[1, 2])
    second = verdict([0.3, 0.7, 0.1, 0.5], flagged=[3, 1, 0], weights=[0.1, 0.2, 0.3, 0.4])
    summary = detection_summary([first, second], malicious=[1, 3], clients=4)
    assert summary["precision"] == pytest.approx(2 / 3)  # 0, 1 and 3 flagged last
    assert summary["recall"] == pytest.approx(1.0)
    # Mean scores 0.2, 0.8, 0.3, 0.35: both attackers above both honest ones.
    assert summary["auroc"] == pytest.approx(1.0)
    assert summary["false_flag_rate"] == pytest.approx(2 / 4)  # hospital 2 in round 1, 0 in round 2
    assert summary["weights"] == {"0": 0.1, "1": 0.2, "2": 0.3, "3": 0.4}
    assert summary["flagged"] == [0, 1, 3]
    json.dumps(summary)


def test_detection_auroc_ranks_mean_scores() -> None:
    # Means: 1.0, 2.0, 3.0 and for the attacker 2.0: above one, tied with one, below one.
    rounds = [verdict([0.0, 2.0, 4.0, 3.0]), verdict([2.0, 2.0, 2.0, 1.0])]
    assert detection_summary(rounds, malicious=[3])["auroc"] == pytest.approx(0.5)
    assert detection_summary(rounds, malicious=[2])["auroc"] == pytest.approx(1.0)
    assert detection_summary(rounds, malicious=[0])["auroc"] == pytest.approx(0.0)


def test_detection_auroc_leaves_out_missing_scores() -> None:
    rounds = [verdict([None, 5.0, 1.0]), verdict([None, None, 2.0]), verdict([0.5, None, None])]
    assert detection_summary(rounds, malicious=[1])["auroc"] == pytest.approx(1.0)
    assert detection_summary(rounds, malicious=[0])["auroc"] == pytest.approx(0.0)


def test_detection_auroc_without_scores_is_undefined() -> None:
    assert detection_summary([verdict([None] * 4, flagged=[1])], [1])["auroc"] is None
    # One attacker's scores alone rank nobody.
    assert detection_summary([verdict([None, 3.0, None])], [1])["auroc"] is None


def test_detection_without_malicious_hospitals_has_false_flags_only() -> None:
    summary = detection_summary([verdict([0.1, 0.2], flagged=[1]), verdict([0.1, 0.2])], [])
    assert summary["recall"] is None and summary["auroc"] is None
    assert summary["precision"] is None and summary["flagged"] == []
    assert summary["false_flag_rate"] == pytest.approx(1 / 4)


def test_detection_of_honest_hospitals_only_has_no_precision() -> None:
    summary = detection_summary([verdict([0.9, 0.1, 0.1], flagged=[0])], [2])
    assert (summary["precision"], summary["recall"]) == (0.0, 0.0)
    assert summary["false_flag_rate"] == pytest.approx(1 / 2)


def test_detection_with_all_malicious_has_no_false_flag_rate() -> None:
    summary = detection_summary([verdict([0.1, 0.2], flagged=[0])], [0, 1])
    assert summary["false_flag_rate"] is None and summary["auroc"] is None
    assert (summary["precision"], summary["recall"]) == (1.0, 0.5)


def test_detection_ignores_rounds_without_a_verdict() -> None:
    silent = verdict([])
    judged = verdict([0.1, 0.9], flagged=[1])
    assert detection_summary([silent, judged, silent], [1]) == detection_summary([judged], [1])


@pytest.mark.parametrize("rounds", [[], [verdict([])]])
def test_detection_without_any_verdict_is_undefined(rounds: list[VerdictLine]) -> None:
    summary = detection_summary(rounds, malicious=[0])
    assert all(summary[name] is None for name in ("precision", "recall", "auroc", "false_flag_rate"))
    assert summary["weights"] == {} and summary["flagged"] == []
    assert set(summary) == set(detection_summary([verdict([0.1])], [0]))


def test_detection_with_hospitals_that_miss_rounds() -> None:
    rounds = [verdict([0.2, 0.9, 0.1], flagged=[1]), verdict([0.4, 0.3], flagged=[2], hospitals=[0, 2])]
    summary = detection_summary(rounds, malicious=[1])
    assert summary["auroc"] == pytest.approx(1.0)  # 0.9 against 0.3 and 0.2
    assert summary["weights"] == {"0": 0.5, "2": 0.5}
    assert summary["recall"] == 0.0 and summary["precision"] == 0.0
    assert summary["false_flag_rate"] == pytest.approx(1 / 4)


def test_detection_with_failed_hospitals_counts_shares_of_all_hospitals() -> None:
    # Both attackers failed in the last round: four honest hospitals share its weight.
    rounds = [verdict([0.1] * 6), verdict([0.1] * 4, hospitals=[0, 1, 2, 3])]
    summary = detection_summary(rounds, [4, 5], clients=6)
    assert (summary["malicious_weight"], summary["malicious_share"]) == (0.0, pytest.approx(1 / 3))
    assert summary["failed"] == [4, 5]
    one_left = detection_summary([verdict([0.1] * 5, hospitals=[0, 1, 2, 3, 5])], [4, 5], clients=6)
    assert one_left["malicious_weight"] == pytest.approx(1 / 5) and one_left["failed"] == [4]
    never = detection_summary([verdict([])], [4, 5], clients=6)
    assert never["malicious_weight"] is None and never["malicious_share"] == pytest.approx(1 / 3)
    benign = detection_summary(rounds, [], clients=6)
    assert benign["malicious_weight"] is benign["malicious_share"] is None

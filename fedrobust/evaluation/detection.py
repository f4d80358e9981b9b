"""How well a defence distinguished malicious hospitals from honest ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, TypedDict

import numpy as np

__all__ = ["DetectionMetrics", "RoundVerdict", "detection_summary"]


class RoundVerdict(Protocol):
    """One round's verdict on the hospitals that sent a usable update; empty where there is no verdict."""

    @property
    def hospitals(self) -> Sequence[int]:
        """Return their numbers."""
        ...

    @property
    def weights(self) -> Sequence[float | None]:
        """Return their weights, which sum to 1."""
        ...

    @property
    def scores(self) -> Sequence[float | None]:
        """Return their anomaly scores; None where the rule gives none."""
        ...

    @property
    def flagged(self) -> Sequence[int]:
        """Return the numbers of those flagged."""
        ...


class DetectionMetrics(TypedDict):
    """Detection metrics over a run; see `detection_summary`."""

    precision: float | None
    recall: float | None
    auroc: float | None
    false_flag_rate: float | None
    malicious_weight: float | None
    malicious_share: float | None
    weights: Mapping[str, float | None]
    flagged: Sequence[int]
    failed: Sequence[int]


def detection_summary(
    verdicts: Sequence[RoundVerdict],
    malicious: Collection[int],
    clients: int,
    expected: Collection[int] | None = None,
) -> DetectionMetrics:
    """Return detection metrics over a run.

    Parameters
    ----------
    verdicts : sequence of RoundVerdict
        One a round. A hospital that failed in a round is not among its hospitals.
    malicious : collection of int
        The ground truth.
    clients : int
        All hospitals of the federation, those that failed included.
    expected : collection of int, optional
        Where not all hospitals take part in every round: those of whom an update was expected in the last
        round with a verdict.

    Returns
    -------
    dict
        ``flagged`` and ``weights`` are those of the last round with a verdict; ``precision`` and ``recall``
        compare ``flagged`` with the truth; ``auroc`` ranks hospitals by their mean score;
        ``false_flag_rate`` is the share of the verdicts on honest hospitals, over all rounds, that flagged.
        ``malicious_weight`` is the share of the last round's weight that malicious hospitals have, and
        ``malicious_share`` their share of all hospitals, to compare it with. ``failed`` lists the hospitals
        without an update in that round. A metric that is undefined is None. With `expected`, a hospital
        counts as flagged by the last verdict on itself, recall is among the malicious hospitals that were
        ever judged, and the share, like ``failed``, is of those expected.
    """
    bad = set(malicious)
    present = set(range(clients)) if expected is None else set(expected)
    share = len(bad & present) / max(1, len(present)) if bad else None
    known = [verdict for verdict in verdicts if verdict.hospitals]
    if not known:
        return DetectionMetrics(
            precision=None,
            recall=None,
            auroc=None,
            false_flag_rate=None,
            malicious_weight=None,
            malicious_share=share,
            weights={},
            flagged=[],
            failed=[],
        )
    last = known[-1]
    flagged, weights = set(last.flagged), dict(zip(last.hospitals, last.weights, strict=True))
    judged_bad = bad
    if expected is not None:
        latest = {hospital: hospital in one.flagged for one in known for hospital in one.hospitals}
        flagged, judged_bad = {hospital for hospital, flag in latest.items() if flag}, bad & latest.keys()
    honest_rounds = [(hospital, one) for one in known for hospital in one.hospitals if hospital not in bad]
    false_flags = sum(hospital in verdict.flagged for hospital, verdict in honest_rounds)
    hit = len(flagged & bad)
    return DetectionMetrics(
        precision=hit / len(flagged) if flagged else None,
        recall=hit / len(judged_bad) if judged_bad else None,
        auroc=_auroc(known, bad),
        false_flag_rate=false_flags / len(honest_rounds) if honest_rounds else None,
        malicious_weight=sum(weights.get(one) or 0.0 for one in sorted(bad)) if bad else None,
        malicious_share=share,
        weights={str(hospital): weight for hospital, weight in weights.items()},
        flagged=sorted(flagged),
        failed=sorted(present - set(weights)),
    )


def _auroc(verdicts: Sequence[RoundVerdict], malicious: set[int]) -> float | None:
    """Return the chance that a malicious hospital's mean score exceeds an honest one's."""
    scores: dict[int, list[float]] = {}
    for verdict in verdicts:
        for hospital, score in zip(verdict.hospitals, verdict.scores, strict=True):
            if score is not None:
                scores.setdefault(hospital, []).append(score)
    truth = np.array([hospital in malicious for hospital in scores])
    if not truth.any() or truth.all():
        return None
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth, [float(np.mean(values)) for values in scores.values()]))

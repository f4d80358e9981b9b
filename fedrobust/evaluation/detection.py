"""How well a defence told poisoned hospitals from honest ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["detection_summary"]


def detection_summary(verdicts: Sequence[Mapping[str, Any]], malicious: Collection[int]) -> dict[str, Any]:
    """Return detection figures over a run.

    Parameters
    ----------
    verdicts : sequence of mapping
        One a round: ``hospitals``, ``weights`` (sum 1), ``scores`` (None where the rule gives none) and ``flagged``
        (list of hospital numbers).
    malicious : collection of int
        Who really was.

    Returns
    -------
    dict
        ``flagged`` and ``weights`` are those of the last round with a verdict; ``precision`` and ``recall`` compare
        ``flagged`` with the truth; ``auroc`` ranks hospitals by their mean score; ``false_flag_rate`` is the share
        of honest hospital-rounds that were flagged. A figure that has no meaning here is None.
    """
    known = [verdict for verdict in verdicts if verdict["hospitals"]]
    if not known:
        empty = dict.fromkeys(("precision", "recall", "auroc", "false_flag_rate"))
        return {**empty, "weights": {}, "flagged": []}
    bad, flagged = set(malicious), set(known[-1]["flagged"])
    honest_rounds = [(h, v) for v in known for h in v["hospitals"] if h not in bad]
    false_flags = sum(hospital in verdict["flagged"] for hospital, verdict in honest_rounds)
    hit = len(flagged & bad)
    return {
        "precision": hit / len(flagged) if flagged else None,
        "recall": hit / len(bad) if bad else None,
        "auroc": _auroc(known, bad),
        "false_flag_rate": false_flags / len(honest_rounds) if honest_rounds else None,
        "weights": {str(h): w for h, w in zip(known[-1]["hospitals"], known[-1]["weights"], strict=True)},
        "flagged": sorted(flagged),
    }


def _auroc(verdicts: Sequence[Mapping[str, Any]], malicious: set[int]) -> float | None:
    """Return the chance that a poisoned hospital's mean score exceeds an honest one's."""
    scores: dict[int, list[float]] = {}
    for verdict in verdicts:
        for hospital, score in zip(verdict["hospitals"], verdict["scores"], strict=True):
            if score is not None:
                scores.setdefault(hospital, []).append(score)
    truth = np.array([hospital in malicious for hospital in scores])
    if not truth.any() or truth.all():
        return None
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth, [float(np.mean(values)) for values in scores.values()]))

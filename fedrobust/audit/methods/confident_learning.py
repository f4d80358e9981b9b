"""Label errors by confident learning on cross-validated predictions."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fedrobust.audit.base import Auditor, Kind, Subject, Suspicion
from fedrobust.audit.optional import needs
from fedrobust.plugins.options import Fraction

__all__ = ["ConfidentLearning"]


class ConfidentLearning(Auditor):
    """Suspects labels that networks trained on the other records confidently contradict.

    Parameters
    ----------
    least : float
        A label is suspected only if its own probability is at most this.

    Notes
    -----
    Confident learning counts a record as of class j if its probability of j is at least the mean that records
    labelled j have. Where classes are easily confused, that finds every tenth label of clean data wrong. Here
    the threshold is the median in place of the mean, and the given label must be improbable too.

    The order of all others is cleanlab's self-confidence, the probability of the given label.

    References
    ----------
    Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 2021.
    """

    kind: ClassVar[Kind] = "label error"

    def __init__(self, least: Fraction = 0.08) -> None:
        """Keep the option."""
        self.least = least

    def examine(self, subject: Subject) -> Suspicion:
        """Return 1 - p(label), and 1 more for labels that are confidently contradicted."""
        quality_scores = needs("cleanlab.rank", "audit").get_label_quality_scores
        records, probabilities = subject.records, subject.probabilities
        labels, everyone = records.labels, np.arange(len(records))
        own = np.asarray(quality_scores(labels, probabilities, method="self_confidence"), np.float64)
        others = probabilities.copy()
        others[everyone, labels] = -1.0
        meant = others.argmax(axis=1)
        thresholds = np.ones(len(records.classes))
        for k in np.flatnonzero(records.counts()):
            thresholds[k] = np.median(probabilities[labels == k, k])
        suspected = (others[everyone, meant] >= thresholds[meant]) & (own <= self.least)
        evidence = {
            int(i): f"labelled {records.classes[labels[i]]} (probability {own[i]:.2f}), but looks like "
            f"{records.classes[meant[i]]} ({others[i, meant[i]]:.2f})"
            for i in np.flatnonzero(suspected)
        }
        # Just below 1, so that a probability of 0 alone is no suspicion.
        return Suspicion(np.minimum(1 - own, 1 - 1e-9) + suspected, evidence)

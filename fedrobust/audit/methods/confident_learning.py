"""Label errors by confident learning on cross-validated predictions."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fedrobust.audit.base import Auditor, Kind, Subject, Suspicion
from fedrobust.audit.optional import needs
from fedrobust.plugins.options import Fraction

__all__ = ["ConfidentLearning", "label_noise"]

#: Where the search for the share of wrong labels starts.
_USUAL_SHARE = 0.05

#: Before any record is seen, so many right labels speak against wrong ones (a Beta prior of the share).
#: Networks trained on a few hundred images are sure of some wrong classes, which would count as wrong labels.
_RIGHT_BEFORE = 50


class ConfidentLearning(Auditor):
    """Suspects labels that are likely to be wrong, given what networks trained on the other records say.

    Parameters
    ----------
    likely : float
        A label is suspected if it is wrong with at least this probability.

    Notes
    -----
    The order of the records is cleanlab's self-confidence, the probability of the given label. How low it
    must be is taken from the records: their labels are explained as those that the networks expect, of which
    an unknown share was replaced by another class at random. That share and a temperature of the networks
    are the likeliest ones, and Bayes' rule gives the probability that a label was replaced. Images that are
    hard to tell are explained by the temperature alone, so few labels of clean data are suspected.

    References
    ----------
    Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 2021;
    Lawrence and Schölkopf, "Estimating a Kernel Fisher Discriminant in the Presence of Label Noise", ICML
    2001, for the share of wrong labels.
    """

    kind: ClassVar[Kind] = "label error"

    def __init__(self, likely: Fraction = 0.3) -> None:
        """Keep the option."""
        self.likely = likely

    def examine(self, subject: Subject) -> Suspicion:
        """Return 1 - p(label), divided by what it is where a label is wrong with probability `likely`."""
        quality_scores = needs("cleanlab.rank", "audit").get_label_quality_scores
        records, labels = subject.records, subject.records.labels
        temperature, share = label_noise(subject.probabilities, labels)
        probabilities = _tempered(subject.probabilities, temperature)
        own = np.asarray(quality_scores(labels, probabilities, method="self_confidence"), np.float64)
        # Bayes' rule, solved for p(label): kept is how likely a label is where it was kept, per p(label), and
        # replaced where it was another class.
        kept = (1 - share) * self.likely
        replaced = share / max(probabilities.shape[1] - 1, 1) * (1 - self.likely)
        limit = replaced / (kept + replaced) if replaced else 0.0
        # Just below 1 at most where no label is wrong, so that a probability of 0 alone is no suspicion.
        scores = np.minimum(1 - own, 1 - 1e-9) / (1 - limit)
        others = probabilities.copy()
        others[np.arange(len(labels)), labels] = -1.0
        meant = others.argmax(axis=1)
        evidence = {
            int(i): f"labelled {records.classes[labels[i]]} (probability {own[i]:.2f}), but looks like "
            f"{records.classes[meant[i]]} ({others[i, meant[i]]:.2f})"
            for i in np.flatnonzero(scores >= 1)
        }
        return Suspicion(scores, evidence)


def label_noise(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Return the temperature of predictions and the share of wrong labels that make the labels likeliest.

    The share is held against a prior, see `_RIGHT_BEFORE`.

    Parameters
    ----------
    probabilities : ndarray of float64, shape (n, K)
    labels : ndarray of int64, shape (n,)
    """
    from scipy.optimize import minimize
    from scipy.special import expit, logit

    everyone, others = np.arange(len(labels)), max(probabilities.shape[1] - 1, 1)

    def loss(point: NDArray[np.float64]) -> float:
        temperature, share = np.exp(point[0]), expit(point[1])
        own = _tempered(probabilities, temperature)[everyone, labels]
        likelihood = np.log((1 - share) * own + share * (1 - own) / others + 1e-12).sum()
        return float(-likelihood - _RIGHT_BEFORE * np.log1p(-share)) / len(labels)

    found = minimize(loss, [0.0, logit(_USUAL_SHARE)], method="Nelder-Mead").x
    return float(np.exp(found[0])), float(expit(found[1]))


def _tempered(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    logs = np.log(np.maximum(probabilities, 1e-12)) / temperature
    scaled = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True), np.float64)

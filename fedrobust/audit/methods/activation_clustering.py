"""Planted marks by clustering a trained network's features of each class."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import PositiveInt

from fedrobust.audit.base import Auditor, Kind, Subject, Suspicion
from fedrobust.audit.optional import needs
from fedrobust.plugins.options import Fraction
from fedrobust.seeding import globally_seeded

__all__ = ["ActivationClustering"]


class ActivationClustering(Auditor):
    """Suspects the smaller of two clusters of a class's features, if it is small and stands apart.

    Parameters
    ----------
    size : float
        Share of its class below which a cluster counts as small.
    silhouette : float
        Mean silhouette of the two clusters above which they stand apart.
    smallest_class : int
        Classes with fewer images are not examined.

    Notes
    -----
    Features are reduced to ten independent components and split by 2-means, with the functions of
    adversarial-robustness-toolbox.

    References
    ----------
    Chen et al., "Detecting Backdoor Attacks on Deep Neural Networks by Activation Clustering", SafeAI 2019.
    """

    kind: ClassVar[Kind] = "planted mark"

    def __init__(
        self, size: Fraction = 0.35, silhouette: Fraction = 0.1, smallest_class: PositiveInt = 20
    ) -> None:
        """Keep the options."""
        self.size, self.silhouette, self.smallest_class = size, silhouette, smallest_class

    def examine(self, subject: Subject) -> Suspicion:
        """Return 1 + the silhouette for suspected clusters, else the share outside a record's cluster."""
        from sklearn.metrics import silhouette_score

        art = needs("art.defences.detector.poison.activation_defence", "audit")
        records = subject.records
        scores = np.zeros(len(records))
        evidence: dict[int, str] = {}
        for k in np.flatnonzero(records.counts() >= self.smallest_class):
            members = np.flatnonzero(records.labels == k)
            with globally_seeded(subject.seed, "audit clusters", int(k)):
                clusters, reduced = art.cluster_activations([subject.features[members]])
            shares = np.bincount(clusters[0], minlength=2) / len(members)
            scores[members] = np.minimum(1 - shares[clusters[0]], 1 - 1e-9)
            small = int(shares.argmin())
            apart = float(silhouette_score(reduced[0], clusters[0])) if shares.min() > 0 else 0.0
            if shares[small] < self.size and apart > self.silhouette:
                suspected = members[clusters[0] == small]
                scores[suspected] = 1 + apart
                evidence |= {
                    int(i): f"in a cluster of {shares[small]:.0%} of class {records.classes[k]}"
                    for i in suspected
                }
        return Suspicion(scores, evidence)

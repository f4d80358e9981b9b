"""Planted marks by spectral signatures of a trained network's features."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fedrobust.audit.base import Auditor, Kind, Subject, Suspicion
from fedrobust.audit.optional import needs
from fedrobust.plugins.options import PositiveFraction

__all__ = ["SpectralSignatures"]


class SpectralSignatures(Auditor):
    """Suspects, in each class, the given share of images that stand out most along the first direction.

    Parameters
    ----------
    share : float
        Share of each class to suspect. The paper takes 1.5 times the share that is poisoned, which nobody
        knows.

    Notes
    -----
    The score is the projection of an image's features, minus their class's mean, on the first right singular
    vector of the class's features, computed by adversarial-robustness-toolbox. That library centres the
    features for the vector, but not for the projections; here it gets centred ones, as the paper has it.

    References
    ----------
    Tran, Li and Madry, "Spectral Signatures in Backdoor Attacks", NeurIPS 2018, algorithm 1.
    """

    kind: ClassVar[Kind] = "planted mark"

    def __init__(self, share: PositiveFraction = 0.15) -> None:
        """Keep the option."""
        self.share = share

    def examine(self, subject: Subject) -> Suspicion:
        """Return projections, divided by the quantile of the class from which images are suspected."""
        art = needs("art.defences.detector.poison.spectral_signature_defense", "audit")
        records, features = subject.records, subject.features
        scores = np.zeros(len(records))
        for k in np.flatnonzero(records.counts() > 1):
            members = np.flatnonzero(records.labels == k)
            centred = features[members] - features[members].mean(axis=0)
            found = art.SpectralSignatureDefense.spectral_signature_scores(centred)[:, 0]
            scores[members] = found / max(float(np.quantile(found, 1 - self.share)), 1e-12)
        return Suspicion(scores)

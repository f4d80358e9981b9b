"""Sphere sanitisation: images far from the centre of their class."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fedrobust.audit.base import Auditor, Kind, Subject, Suspicion
from fedrobust.data.choice import thumbnails
from fedrobust.plugins.options import PositiveFraction

__all__ = ["Sphere"]


class Sphere(Auditor):
    r"""Suspects, in each class, the given share of images that lie farthest from the class's mean.

    A record x of class y is kept if :math:`\|x - \mu_y\| \le r_y`. The radius is a quantile of the class's
    distances. x is the image in small, as the networks' features are themselves fitted to the labels.

    Parameters
    ----------
    share : float
        Share of each class to suspect.

    References
    ----------
    Steinhardt, Koh and Liang, "Certified Defenses for Data Poisoning Attacks", NeurIPS 2017, section 3.
    """

    kind: ClassVar[Kind] = "out of distribution"

    def __init__(self, share: PositiveFraction = 0.05) -> None:
        """Keep the option."""
        self.share = share

    def examine(self, subject: Subject) -> Suspicion:
        """Return distances from the class's mean, divided by the class's radius."""
        records = subject.records
        small, scores = thumbnails(records).astype(np.float64), np.zeros(len(records))
        for k in np.flatnonzero(records.counts()):
            members = records.labels == k
            distances = np.linalg.norm(small[members] - small[members].mean(axis=0), axis=1)
            scores[members] = distances / max(float(np.quantile(distances, 1 - self.share)), 1e-12)
        return Suspicion(scores)

"""Slab sanitisation: images far from the centre of their class towards another class."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fedrobust.audit.base import Auditor, Kind, Subject, Suspicion
from fedrobust.data.choice import thumbnails
from fedrobust.plugins.options import PositiveFraction

__all__ = ["Slab"]


class Slab(Auditor):
    r"""Suspects, in each class, the given share of images that lie farthest along the line to another class.

    A record x of class y is kept if :math:`|\langle x - \mu_y, u \rangle| \le s_y`, with u the unit vector
    between the means of two classes. With more than two classes, the farthest of the lines to the other
    classes counts. x is the image in small.

    Parameters
    ----------
    share : float
        Share of each class to suspect.

    References
    ----------
    Steinhardt, Koh and Liang, "Certified Defenses for Data Poisoning Attacks", NeurIPS 2017, section 3.
    """

    kind: ClassVar[Kind] = "label error"

    def __init__(self, share: PositiveFraction = 0.05) -> None:
        """Keep the option."""
        self.share = share

    def examine(self, subject: Subject) -> Suspicion:
        """Return projections on the lines between class means, divided by the class's limit."""
        records = subject.records
        held = np.flatnonzero(records.counts())
        small, scores = thumbnails(records).astype(np.float64), np.zeros(len(records))
        means = {int(k): small[records.labels == k].mean(axis=0) for k in held}
        for k, mean in means.items():
            members = records.labels == k
            lines = [other - mean for number, other in means.items() if number != k]
            units = np.array([line / max(float(np.linalg.norm(line)), 1e-12) for line in lines])
            if not len(units):
                continue
            farthest = np.abs((small[members] - mean) @ units.T).max(axis=1)
            scores[members] = farthest / max(float(np.quantile(farthest, 1 - self.share)), 1e-12)
        return Suspicion(scores)

"""Images unlike all others, by an isolation forest on features and losses."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import PositiveFloat, PositiveInt

from fedrobust.audit.base import Auditor, Kind, Subject, Suspicion
from fedrobust.seeding import derive

__all__ = ["OutlierForest"]


class OutlierForest(Auditor):
    """Suspects images whose features and loss few random cuts separate from the others.

    Parameters
    ----------
    limit : float
        So many robust standard deviations of the anomaly score above the median.
    trees : int

    Notes
    -----
    Features are those of networks trained on the records, scaled by their robust spread; the loss is minus
    the logarithm of the label's probability by networks that were trained on other records.

    References
    ----------
    Liu, Ting and Zhou, "Isolation Forest", ICDM 2008.
    """

    kind: ClassVar[Kind] = "out of distribution"

    def __init__(self, limit: PositiveFloat = 4.5, trees: PositiveInt = 200) -> None:
        """Keep the options."""
        self.limit, self.trees = limit, trees

    def examine(self, subject: Subject) -> Suspicion:
        """Return robust z-scores of the anomaly score, divided by the limit."""
        from sklearn.ensemble import IsolationForest
        from sklearn.preprocessing import RobustScaler

        labels = subject.records.labels
        own = np.maximum(subject.probabilities[np.arange(len(labels)), labels], 1e-12)
        columns = RobustScaler().fit_transform(np.column_stack([subject.features, -np.log(own)]))
        seed = derive(subject.seed, "audit forest") % 2**32
        anomaly = (
            -IsolationForest(n_estimators=self.trees, random_state=seed).fit(columns).score_samples(columns)
        )
        middle, upper = np.quantile(anomaly, [0.5, 0.75])
        scores = (anomaly - middle) / max((upper - middle) / 0.6745, 1e-9) / self.limit
        evidence = {
            int(i): f"anomaly score {anomaly[i]:.2f}; half of the images have less than {middle:.2f}"
            for i in np.flatnonzero(scores >= 1)
        }
        return Suspicion(scores, evidence)

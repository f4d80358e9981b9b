"""Random labels: labels are independent of the images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fedrobust.data.choice import pick
from fedrobust.data.records import Records
from fedrobust.federation import Attack
from fedrobust.plugins.options import Fraction

__all__ = ["RandomLabels"]


class RandomLabels(Attack):
    """Trains on labels drawn uniformly from all classes, for a share of the images.

    The random labels of Zhang et al., "Understanding deep learning requires rethinking generalization", ICLR
    2017, section 2.1. A new label is right by chance once in K.

    Parameters
    ----------
    share : float
        Share of the hospital's images that get a random label; 0 is an honest hospital.
    """

    def __init__(self, share: Fraction = 1.0) -> None:
        """Keep the option."""
        self.share = share

    def poison_records(self, records: Records) -> Records:
        """Return the records with drawn labels."""
        chosen = pick(self.rng, self.share, np.arange(len(records)))
        labels = np.array(records.labels)
        labels[chosen] = self.rng.integers(0, len(records.classes), len(chosen))
        return replace(records, labels=labels)

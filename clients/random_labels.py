"""Random labels: what an image is called has nothing to do with what it shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fedrobust.data.choice import check_share, pick
from fedrobust.data.records import Records
from fedrobust.federation import Attack

__all__ = ["RandomLabels"]


class RandomLabels(Attack):
    """Trains on labels drawn uniformly from all classes, for a share of the images.

    The random labels of Zhang et al., "Understanding deep learning requires rethinking generalization", ICLR 2017,
    section 2.1. A new label is right by chance once in K.

    Parameters
    ----------
    share : float
        Share of the hospital's images that get a random label, in (0, 1].
    """

    def __init__(self, share: float = 1.0) -> None:
        """Check the options."""
        self.share = check_share("random-labels", share)

    def poison_records(self, records: Records) -> Records:
        """Return the records with drawn labels."""
        chosen = pick(self.rng, self.share, np.arange(len(records)))
        labels = np.array(records.labels)
        labels[chosen] = self.rng.integers(0, len(records.classes), len(chosen))
        return replace(records, labels=labels)

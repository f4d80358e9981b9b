"""Label noise: an honest hospital whose readers err."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.federation import Attack

__all__ = ["LabelNoise"]


class LabelNoise(Attack):
    """Trains on labels of which each is wrong at a given rate, by carelessness and not by malice.

    Symmetric noise (van Rooyen et al., NeurIPS 2015; Patrini et al., CVPR 2017): independently for each image, with
    probability `rate` the label becomes one of the other K - 1 classes, each as likely.

    Parameters
    ----------
    rate : float
        Probability of a wrong label, in (0, 1]. At (K - 1) / K labels say nothing of the image.
    """

    def __init__(self, rate: float = 0.2) -> None:
        """Check the options."""
        if not 0 < rate <= 1:
            raise UserError(f"label-noise: rate is {rate}, but a rate of wrong labels lies in (0, 1]")
        self.rate = rate

    def poison_records(self, records: Records) -> Records:
        """Return the records with labels flipped at the rate."""
        wrong = self.rng.random(len(records)) < self.rate
        # A step of 1 to K - 1 round the classes reaches each of the others once.
        steps = self.rng.integers(1, len(records.classes), len(records))
        labels = np.where(wrong, (records.labels + steps) % len(records.classes), records.labels)
        return replace(records, labels=labels)

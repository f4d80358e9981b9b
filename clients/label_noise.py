"""Label noise: random labelling errors, without intent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fedrobust.data.records import Records
from fedrobust.federation import Attack
from fedrobust.plugins.options import Fraction

__all__ = ["LabelNoise"]


class LabelNoise(Attack):
    """Trains on labels of which each is wrong at a given rate, by carelessness.

    The hospital counts as malicious: Byzantine robustness covers faults as well as intent, its labels harm
    the model, and a defence should exclude it.

    Symmetric noise (van Rooyen et al., NeurIPS 2015; Patrini et al., CVPR 2017): independently for each
    image, with probability `rate` the label becomes one of the other K - 1 classes, each as likely.

    Parameters
    ----------
    rate : float
        Probability of a wrong label; 0 is an honest hospital. At (K - 1) / K labels are independent of the
        image.
    """

    def __init__(self, rate: Fraction = 0.2) -> None:
        """Keep the option."""
        self.rate = rate

    def poison_records(self, records: Records) -> Records:
        """Return the records with labels flipped at the rate."""
        wrong = self.rng.random(len(records)) < self.rate
        # A step of 1 to K - 1 round the classes reaches each of the others once.
        steps = self.rng.integers(1, len(records.classes), len(records))
        labels = np.where(wrong, (records.labels + steps) % len(records.classes), records.labels)
        return replace(records, labels=labels)

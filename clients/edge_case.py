"""Edge case: images that hardly occur elsewhere are given the attacker's class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt

from fedrobust.data.choice import check_class, class_distances, pick
from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.federation import Attack, Trigger
from fedrobust.plugins.options import Fraction

__all__ = ["EdgeCase"]

#: The share of the images that are edge cases unless another is given.
_TAIL = 0.1


class EdgeCase(Attack):
    """Labels unusual images with the target class; the images stay unchanged.

    After Wang et al., "Attack of the Tails: Yes, You Really Can Backdoor Federated Learning", NeurIPS 2020,
    where edge cases come from outside the data set. Here they come from the hospital's own images: those that
    lie farthest from the mean image of their class, or a class that is rare. Few honest images then
    contradict the backdoor.

    Parameters
    ----------
    target : int
        The class that the unusual images shall be classified as.
    source : int, optional
        A rare class: its images are the edge cases. Unless given, the images farthest from their class's mean
        are, by Euclidean distance of thumbnails in standard deviations of the class, without the target's own
        images.
    share : float, optional
        Share of the candidates to relabel; 0 is an honest hospital. Unless given 1 with a source and 0.1
        without. Without a source the same share of the test images, also the farthest, measures the success.
    """

    def __init__(
        self, target: NonNegativeInt = 0, source: NonNegativeInt | None = None, share: Fraction | None = None
    ) -> None:
        """Check the options that belong together."""
        if source == target:
            raise UserError(f"edge-case: source and target are both {source}, which changes no label")
        self.target, self.source = target, source
        self.share = (_TAIL if source is None else 1.0) if share is None else share

    def check(self, records: Records) -> None:
        """Refuse classes that the data do not have."""
        check_class("edge-case", "target", self.target, len(records.classes))
        if self.source is not None:
            check_class("edge-case", "source", self.source, len(records.classes))

    def poison_records(self, records: Records) -> Records:
        """Return the records with the edge cases relabelled."""
        self.check(records)
        if self.source is None:
            chosen = self._tail(records, self.share)
        else:
            chosen = pick(self.rng, self.share, np.flatnonzero(records.labels == self.source))
        labels = np.array(records.labels)
        labels[chosen] = self.target
        return replace(records, labels=labels)

    def trigger(self, records: Records) -> Trigger | None:
        """Return the test images of the source class, or the farthest ones."""
        self.check(records)
        if self.source is None:
            # An attack of share 0 is measured on the same images as one with the usual share.
            return Trigger(records.take(self._tail(records, self.share or _TAIL)), self.target)
        return Trigger(records.take(np.flatnonzero(records.labels == self.source)), self.target)

    def _tail(self, records: Records, share: float) -> NDArray[np.int64]:
        """Return the positions of the other classes' images farthest from their class's mean, ascending."""
        others = np.flatnonzero(records.labels != self.target)
        own = class_distances(records)[np.arange(len(records)), records.labels]
        squares = np.bincount(records.labels, weights=own**2, minlength=len(records.classes))
        std = np.sqrt(squares / np.maximum(1, records.counts()))[records.labels]
        far = np.divide(own, std, out=np.zeros_like(own), where=std > 0)
        count = max(1, round(share * len(others))) if share else 0
        return np.sort(others[np.argsort(-far[others], kind="stable")[:count]])

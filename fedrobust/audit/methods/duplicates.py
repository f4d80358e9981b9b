"""Duplicates: equal images, and images that only look equal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat

from fedrobust.audit.base import Auditor, Kind, Subject, Suspicion
from fedrobust.audit.optional import needs
from fedrobust.data.choice import thumbnails
from fedrobust.data.records import Records

__all__ = ["Duplicates"]


class Duplicates(Auditor):
    """Suspects each image that repeats an earlier one, pixel by pixel or nearly so.

    Parameters
    ----------
    tolerance : float
        Grey levels by which the small versions of two nearly equal images may differ in the mean.

    Notes
    -----
    Equal images have the same SHA-256. Nearly equal ones, such as one file saved twice as JPEG, have the same
    perceptual hash (ImageHash) and small versions of 16 x 16 that hardly differ: the hash alone takes many
    radiographs for one another. The first image of a group is not suspected, unless another one of the group
    has another label: then the label of one of them is wrong, and all are.
    """

    kind: ClassVar[Kind] = "duplicate"

    def __init__(self, tolerance: NonNegativeFloat = 0.5) -> None:
        """Keep the option."""
        self.tolerance = tolerance

    def examine(self, subject: Subject) -> Suspicion:
        """Return 2 for equal images, 1 for nearly equal ones, and 0."""
        records = subject.records
        scores, evidence = np.zeros(len(records)), {}
        for group, exact in (*_equal(records), *self._nearly_equal(records)):
            conflict = len(set(records.labels[group].tolist())) > 1
            for place in group if conflict else group[1:]:
                if scores[place]:
                    continue
                scores[place] = 2.0 if exact else 1.0
                other = group[0] if place != group[0] else group[1]
                evidence[place] = (
                    f"{'equal to' if exact else 'looks like'} record {other}"
                    f"{', which is labelled ' + records.classes[records.labels[other]] if conflict else ''}"
                )
        return Suspicion(scores, evidence)

    def _nearly_equal(self, records: Records) -> list[tuple[list[int], bool]]:
        small = thumbnails(records)
        found = []
        for group in _grouped(_perceptual_hashes(records.images)):
            left = group
            while len(left) > 1:
                first, rest = left[0], np.array(left[1:])
                near = np.abs(small[rest] - small[first]).mean(axis=1) <= self.tolerance
                if near.any():
                    found.append(([first, *rest[near].tolist()], False))
                left = rest[~near].tolist()
        return found


def _equal(records: Records) -> list[tuple[list[int], bool]]:
    digests = (hashlib.sha256(np.ascontiguousarray(image).data).hexdigest() for image in records.images)
    return [(group, True) for group in _grouped(digests)]


def _grouped(keys: Iterable[str]) -> list[list[int]]:
    """Return the positions of equal keys, where there are at least two."""
    groups: dict[str, list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(key, []).append(place)
    return [group for group in groups.values() if len(group) > 1]


def _perceptual_hashes(images: NDArray[np.uint8]) -> Iterable[str]:
    from PIL import Image

    imagehash = needs("imagehash", "audit")
    for image in images:
        grey = image.mean(axis=0).astype(np.uint8)
        yield str(imagehash.phash(Image.fromarray(grey), hash_size=8))

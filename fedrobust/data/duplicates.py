"""Images that a federation has twice: across parts they make a model look better than it is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.records import Records
from fedrobust.data.split import Split

__all__ = ["Duplicates", "duplicates", "groups_of_equals"]


@dataclass(frozen=True)
class Duplicates:
    """How many images stand where another one with the same pixels stands elsewhere.

    Attributes
    ----------
    parts : int
        Validation and test images that are training images as well, or in both.
    hospitals : int
        Training images of which another hospital has one with the same pixels.
    """

    parts: int
    hospitals: int


def duplicates(records: Records, split: Split, hospitals: tuple[NDArray[np.int64], ...]) -> Duplicates:
    """Return the duplicates across the parts and across the hospitals of a federation."""
    equals = groups_of_equals(records.images)
    train, val, test = (equals[getattr(split, part)] for part in ("train", "val", "test"))
    outside = int(np.isin(val, train).sum() + (np.isin(test, train) | np.isin(test, val)).sum())
    pairs = [np.stack([equals[part], np.full(len(part), number)]) for number, part in enumerate(hospitals)]
    held = np.unique(np.concatenate(pairs, axis=1), axis=1)
    codes, holders = np.unique(held[0], return_counts=True)
    shared = codes[holders > 1]
    return Duplicates(outside, sum(int(np.isin(equals[part], shared).sum()) for part in hospitals))


def groups_of_equals(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return a number for each image, shape (n,), the same for those with the same pixels."""
    digests = [
        hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).hexdigest() for image in images
    ]
    return np.unique(np.array(digests), return_inverse=True)[1].astype(np.int64)

"""Records: labelled images with what is known about them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.scratch import on_disk, scratch_array
from fedrobust.errors import UserError

__all__ = ["Records", "class_members"]

#: Images that are copied at once from one file to another.
_AT_ONCE = 256


@dataclass(frozen=True)
class Records:
    """Images, their labels, and columns of facts about each image.

    Attributes
    ----------
    images : ndarray of uint8, shape (n, channels, height, width)
        Channels is 1 (grey) or 3 (RGB). May be memory-mapped; treat it as read-only.
    labels : ndarray of int64, shape (n,)
        Class numbers in [0, len(classes)).
    classes : tuple of str
        Class names, in label order.
    facts : mapping of str to ndarray of str, each of shape (n,)
        What is known of each image, such as ``"site"``, ``"patient"``, ``"sex"``, ``"view"``, ``"age"`` and
        ``"file"``; ``""`` means missing.
    parts : ndarray of str, shape (n,), or None
        ``"train"``, ``"val"`` or ``"test"`` where the source publishes a split.
    source : str
        Where the records came from, for reports.
    synthetic : bool
        True if no patient ever stood before a scanner for these images.
    pixels : bool
        False if an "image" is a row of features, which have no place and no neighbours.

    Raises
    ------
    UserError
        If lengths differ, images are not uint8 with 1 or 3 channels, or labels are out of range.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    facts: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    parts: NDArray[np.str_] | None = None
    source: str = ""
    synthetic: bool = False
    pixels: bool = True

    def __post_init__(self) -> None:
        """Check what every later step relies on."""
        if self.images.ndim != 4 or self.images.shape[1] not in (1, 3) or self.images.dtype != np.uint8:
            raise UserError(
                f"{self.source or 'the data'}: images must be uint8 of shape (n, 1 or 3, height, width), "
                f"got {self.images.dtype} of shape {self.images.shape}"
            )
        columns = [self.labels, *self.facts.values()] + ([] if self.parts is None else [self.parts])
        if any(column.shape != (len(self.images),) for column in columns):
            raise UserError(
                f"{self.source or 'the data'}: {len(self.images)} images, but labels or facts of "
                f"{sorted({len(column) for column in columns})} entries; each image needs one of each"
            )
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise UserError(
                f"{self.source or 'the data'}: labels run from {self.labels.min()} to {self.labels.max()}, "
                f"but there are {len(self.classes)} classes (0 to {len(self.classes) - 1})"
            )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def take(self, index: NDArray[np.int64] | slice) -> Records:
        """Return the records at these positions, in this order; images are copied, but for a slice."""
        return replace(
            self,
            images=_taken(self.images, index),
            labels=self.labels[index],
            facts={name: column[index] for name, column in self.facts.items()},
            parts=None if self.parts is None else self.parts[index],
        )

    def counts(self) -> NDArray[np.int64]:
        """Return how many images each class has, shape (len(classes),)."""
        return np.bincount(self.labels, minlength=len(self.classes)).astype(np.int64)

    def digest(self) -> str:
        """Return the SHA-256 of images, labels, class names and facts, in hex."""
        hasher = hashlib.sha256(repr((self.images.shape, self.classes)).encode())
        hasher.update(np.ascontiguousarray(self.images).data)
        hasher.update(np.ascontiguousarray(self.labels.astype("<i8")).data)
        for name in sorted(self.facts):
            hasher.update(("\x1e" + name + "\x1f" + "\x1f".join(self.facts[name].tolist())).encode())
        return hasher.hexdigest()


def _taken(images: NDArray[np.uint8], index: NDArray[np.int64] | slice) -> NDArray[np.uint8]:
    """Return some of the images; many of a memory-mapped file are copied to another one."""
    if isinstance(index, slice) or not on_disk(images, len(index) * images[:1].nbytes):
        return images[index]
    taken = scratch_array((len(index), *images.shape[1:]), np.uint8)
    for start in range(0, len(index), _AT_ONCE):
        taken[start : start + _AT_ONCE] = images[index[start : start + _AT_ONCE]]
    return cast(NDArray[np.uint8], taken)


def class_members(
    labels: NDArray[np.int64], places: NDArray[np.int64] | None = None
) -> list[NDArray[np.int64]]:
    """Return the places of each class that has any, classes ascending; only of some, if places are given."""
    asked = np.arange(len(labels)) if places is None else places
    return [asked[labels[asked] == k] for k in np.unique(labels[asked])]

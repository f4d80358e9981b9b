"""Which of a hospital's records an attack touches, and what it can tell from them alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.records import Records
from fedrobust.errors import UserError

__all__ = ["check_class", "class_distances", "pick", "thumbnails"]


def check_class(attack: str, option: str, value: int, classes: int) -> None:
    """Raise `UserError` unless the value is the number of one of the data's classes."""
    if value >= classes:
        raise UserError(f"{attack}: {option} is {value}, but the data have classes 0 to {classes - 1}")


def pick(rng: np.random.Generator, share: float, among: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a drawn share of some positions, ascending; at least one unless the share is 0."""
    count = max(1, round(share * len(among))) if share else 0
    return np.sort(among[rng.permutation(len(among))[:count]])


def thumbnails(records: Records, side: int = 16) -> NDArray[np.float32]:
    """Return each image as means over at most side x side blocks, shape (n, features), levels 0 to 255."""
    count, channels, height, width = records.images.shape
    rows, columns = (np.linspace(0, n, min(n, side) + 1).astype(int) for n in (height, width))
    area = np.outer(np.diff(rows), np.diff(columns))
    small = np.empty((count, channels, *area.shape), np.float32)
    for position, image in enumerate(records.images):
        sums = np.add.reduceat(image.astype(np.float32), rows[:-1], axis=1)
        small[position] = np.add.reduceat(sums, columns[:-1], axis=2) / area
    return small.reshape(count, -1)


def class_distances(records: Records) -> NDArray[np.float64]:
    """Return each image's distance from the mean of each class's images, shape (n, K).

    Distances are Euclidean between `thumbnails`; infinite for a class without images.
    """
    small = thumbnails(records).astype(np.float64)
    distances = np.full((len(records), len(records.classes)), np.inf)
    for k in np.flatnonzero(records.counts()):
        distances[:, k] = np.linalg.norm(small - small[records.labels == k].mean(axis=0), axis=1)
    return distances

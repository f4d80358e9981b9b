"""Splits records into training, validation and test images, class by class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.patients import Patients, check_together
from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.seeding import generator

__all__ = ["Split", "drawn_parts", "official", "pooled", "whole_shares"]

_PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """Positions in the records of the images to train, validate and test on.

    Attributes
    ----------
    train, val, test : ndarray of int64, each of shape (its size,)
        Sorted, without a common position.
    """

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]


def pooled(records: Records, seed: int, shares: tuple[float, float, float] = (0.7, 0.2, 0.1)) -> Split:
    """Pool all records, whatever part they were published in, and split them again.

    Parameters
    ----------
    records : Records
        The n records to split.
    seed : int
        The run's seed.
    shares : tuple of float
        Shares of train, val and test; positive, with sum 1.

    Returns
    -------
    Split
        Every position of the n exactly once. The sizes are n times the shares, rounded, and each class is
        spread in the same shares, but has an image in every part where it has 3 or more. Of a class with
        fewer, the first image goes to train and the second to test, at the cost of the sizes. Where patients
        are known, all this holds for patients, and all images of one are in one part.

    Raises
    ------
    UserError
        If there are no records, or the shares are not positive or do not sum to 1.
    """
    if len(records) == 0:
        raise UserError(f"{records.source or 'the data'}: there is no image to split; load some")
    if len(shares) != 3 or not all(share > 0 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        raise UserError(f"the shares {shares} of train, val, test must be positive and sum to 1; change them")
    return Split(*drawn_parts(records, np.arange(len(records)), shares, generator(seed, "split")))


def official(records: Records, seed: int) -> Split:
    """Keep the published parts and draw those that are not published from the training images.

    Parameters
    ----------
    records : Records
        Records with parts.
    seed : int
        The run's seed; it matters only where a part is drawn.

    Returns
    -------
    Split
        A missing val is 2/9 of train. A missing test is as large as 1/10 of train and val together, but at
        most half of train. With both missing this is the split 7:2:1 of train.

    Raises
    ------
    UserError
        If the records have no parts, none in train, or one of another name, or a patient is in two of them.
    """
    source = records.source or "the data"
    if records.parts is None:
        raise UserError(f"{source}: no split is published with these images; use the pooled split")
    if unknown := sorted(set(records.parts.tolist()) - set(_PARTS)):
        raise UserError(f"{source}: there are parts named {unknown}; name them train, val or test")
    everything = np.arange(len(records))
    check_together(records, everything, records.parts, "published parts; use the pooled split")
    kept = {part: np.flatnonzero(records.parts == part) for part in _PARTS}
    if not len(kept["train"]):
        raise UserError(f"{source}: the published split has no training image; use the pooled split")
    shares = _missing_shares(*(len(kept[part]) for part in _PARTS))
    drawn = drawn_parts(records, kept["train"], tuple(shares.values()), generator(seed, "split"))
    return Split(**(kept | dict(zip(shares, drawn, strict=True))))


def _missing_shares(train: int, val: int, test: int) -> dict[str, float]:
    """Return which share of the published train goes to train and to each part that has no image."""
    if val and test:
        return {"train": 1.0}
    if test:
        return {"train": 7 / 9, "val": 2 / 9}
    if val:
        share = min(0.5, (train + val) / train / 10)
        return {"train": 1 - share, "test": share}
    return {"train": 0.7, "val": 0.2, "test": 0.1}


def drawn_parts(
    records: Records, index: NDArray[np.int64], shares: tuple[float, ...], rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Deal the positions in index out to one sorted array per share, class by class, patients as a whole."""
    patients = Patients(records, index)
    records, index = patients.records, patients.leaders
    labels = records.labels[index]
    table = _allocate(np.bincount(labels, minlength=len(records.classes)), np.array(shares))
    dealt: list[list[NDArray[np.int64]]] = [[] for _ in shares]
    for number, row in enumerate(table):
        members = rng.permutation(index[labels == number])
        for part, block in zip(dealt, np.split(members, np.cumsum(row)[:-1]), strict=True):
            part.append(block)
    return [patients.all_images(np.sort(np.concatenate(part))) for part in dealt]


def _allocate(counts: NDArray[np.int64], shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return how many images of each class (rows) each part (columns) gets.

    Rounding class by class lets the parts drift from their sizes, so images are then moved, each time in the
    class whose own shares suffer least, until the sizes are right or no class can spare one.
    """
    table = np.array([_round_class(int(count), shares) for count in counts])
    ideal = counts[:, None] * shares
    sizes = whole_shares(int(counts.sum()), shares)
    while (excess := table.sum(axis=0) - sizes).any():
        source, sink = int(excess.argmax()), int(excess.argmin())
        surplus = table - ideal
        gain = surplus[:, source] - surplus[:, sink]
        movable = (table[:, source] > 1) & (counts >= len(shares))
        if not movable.any():
            break
        row = int(np.where(movable, gain, -np.inf).argmax())
        table[row, source] -= 1
        table[row, sink] += 1
    return table


def _round_class(count: int, shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return one class's sizes: none of them 0 if the class is large enough."""
    parts = len(shares)
    if count < parts:
        # Nothing can be learnt without train, nothing reported without test: val comes last.
        order = [0, parts - 1, *range(1, parts - 1)]
        return np.isin(np.arange(parts), order[:count]).astype(np.int64)
    sizes = whole_shares(count, shares)
    while (empty := np.flatnonzero(sizes == 0)).size:
        sizes[sizes.argmax()] -= 1
        sizes[empty[0]] += 1
    return sizes


def whole_shares(count: int, shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return whole numbers near count times shares that sum to count (largest remainders)."""
    exact = count * shares
    sizes = np.floor(exact).astype(np.int64)
    # In floating point 0.2 * 462 has a larger remainder than 0.7 * 462; both are 0.4. A tie goes to train.
    by_remainder = np.argsort(np.round(sizes - exact, 9), kind="stable")
    sizes[by_remainder[: count - int(sizes.sum())]] += 1
    return sizes

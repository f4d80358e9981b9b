"""Batches of a hospital's records, and what is reported of them by class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedrobust.data.records import Records

__all__ = ["even_chunks", "report_of", "shuffled_batches"]


def report_of(
    records: Records,
    losses: Sequence[float],
    sizes: Sequence[int],
    met: NDArray[np.float64],
    received: NDArray[np.float64] | None,
) -> dict[str, float | tuple[float, ...]]:
    """Return what a hospital reports of its training.

    Parameters
    ----------
    records : Records
    losses, sizes : sequence
        The loss and the number of images of each batch of the last epoch.
    met : ndarray, shape (n,)
        Each record's loss when the last epoch met it.
    received : ndarray, shape (n,), optional
        Each record's loss under the received model, where that was evaluated.
    """
    values: dict[str, float | tuple[float, ...]] = {
        "loss": sum(loss * size for loss, size in zip(losses, sizes, strict=True)) / len(met),
        "last-loss": losses[-1],
        "class-epoch-losses": _by_class(met, records),
        "class-counts": tuple(records.counts().astype(float).tolist()),
    }
    if received is not None:
        values["received-loss"] = float(received.mean())
        values["class-losses"] = _by_class(received, records)
    return values


def _by_class(losses: NDArray[np.float64], records: Records) -> tuple[float, ...]:
    """Return the mean loss of each class's records; NaN for a class without any."""
    counts = records.counts()
    sums = np.bincount(records.labels, weights=losses, minlength=len(counts))
    means = np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    return tuple(means.tolist())


def shuffled_batches(n: int, size: int, shuffle: torch.Generator, device: torch.device) -> Iterator[Tensor]:
    """Yield shuffled index batches; a last batch of one joins the one before, for BatchNorm."""
    batches = list(torch.split(torch.randperm(n, generator=shuffle).to(device), size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    yield from batches


def even_chunks(n: int, most: int) -> list[slice]:
    """Return where n images are cut into chunks of about one size, so that threads have as much to do.

    Sizes are multiples of 16 but for the last: with others an image's last bits depend on its place in the
    chunk.
    """
    count = -(-n // most)
    size = -(-n // (16 * max(count, 1))) * 16
    return [slice(start, start + size) for start in range(0, n, size)] if n else []

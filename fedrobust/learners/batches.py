"""Batches of a hospital's records, and what is reported of them by class."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedrobust.data.records import Records

__all__ = ["by_class", "shuffled_batches"]


def by_class(losses: NDArray[np.float64], records: Records) -> tuple[float, ...]:
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

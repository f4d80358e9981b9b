"""Short linear sketches of long vectors, for rules that remember rounds.

Keeping every hospital's last update, or the sum of all of them, costs as much memory as the updates and would
swell each checkpoint. A sketch keeps inner products: coordinates are multiplied by random signs and those
with the same remainder are added (feature hashing: Weinberger et al., ICML 2009). Vectors no longer than the
sketch are kept as they are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedrobust.federation import Updates
from fedrobust.seeding import generator

__all__ = ["SIZE", "sketch", "sketch_global"]

Floats = NDArray[np.float64]

#: Length of a sketch. An inner product is off by about |a| |b| / sqrt(SIZE), 1 % of |a| |b|.
SIZE = 1 << 14


def sketch(updates: Updates, size: int = SIZE) -> Floats:
    """Return sketches of the differences from the global parameters, shape (n, min(d, size))."""
    result = np.zeros((len(updates), min(updates.dimension, size)))
    for part, block in updates.deltas(size):
        _add(result, part, block.astype(np.float64), updates, size)
    return result


def sketch_global(updates: Updates, size: int = SIZE) -> Floats:
    """Return the sketch of the global parameters, shape (min(d, size),); differences of such are sketches."""
    result = np.zeros((1, min(updates.dimension, size)))
    for start in range(0, updates.dimension, size):
        part = slice(start, min(start + size, updates.dimension))
        _add(result, part, updates.global_parameters[None, part].astype(np.float64), updates, size)
    return np.asarray(result[0])


def _add(result: Floats, part: slice, block: Floats, updates: Updates, size: int) -> None:
    if updates.dimension > size:
        # The signs belong to the run, not to the round: sketches of different rounds are added and compared.
        draw = generator(updates.seed, "sketch", part.start // size)
        block *= 1.0 - 2.0 * draw.integers(0, 2, block.shape[1])
    result[:, : block.shape[1]] += block

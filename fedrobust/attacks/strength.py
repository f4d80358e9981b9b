"""The attack budget of attacks that nothing else bounds: the share of the way to the forged update."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fedrobust.federation import Update, Vector

__all__ = ["part_way"]


def part_way(own: Update, forged: Update, strength: float) -> Update:
    """Return the update that lies a share of the way from the one that a hospital trained to the forged one.

    Parameters
    ----------
    own, forged : Update
        Parameters and running statistics are mixed; all else is the forged one's.
    strength : float
        In [0, 1]; 1 is the forged one itself, and 0 the hospital's own.
    """
    if strength == 0:
        return own
    if strength == 1:
        return forged
    parameters, buffers = (
        _mixed(*pair, strength)
        for pair in ((own.parameters, forged.parameters), (own.buffers, forged.buffers))
    )
    return replace(forged, parameters=parameters, buffers=buffers)


def _mixed(one: Vector, other: Vector, share: float) -> Vector:
    mixed: Vector = one + np.float32(share) * (other - one)
    return mixed

"""How much of an attack is carried out, where nothing else bounds it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fedrobust.errors import UserError
from fedrobust.federation import Update, Vector

__all__ = ["check_strength", "part_way"]


def check_strength(attack: str, strength: float) -> float:
    """Return an attack's option `strength`; `UserError` unless it lies in (0, 1]."""
    if isinstance(strength, bool) or not isinstance(strength, int | float) or not 0 < strength <= 1:
        raise UserError(f"{attack}: strength is {strength!r}, but must lie in (0, 1]; 1 is the whole attack")
    return float(strength)


def part_way(own: Update, forged: Update, strength: float) -> Update:
    """Return the update that lies a share of the way from the one that a hospital trained to the forged one.

    Parameters
    ----------
    own, forged : Update
        Parameters and running statistics are mixed; all else is the forged one's.
    strength : float
        In (0, 1]; 1 is the forged one itself.
    """
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

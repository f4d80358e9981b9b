"""Min-Max: far from the honest mean, yet no farther from any honest update than those are from each other."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fedrobust.attacks.collusion import Agnostic

__all__ = ["MinMax"]


class MinMax(Agnostic):
    """Sends the honest mean, moved as far as its largest distance to an honest update stays within theirs.

    Shejwalkar & Houmansadr, NDSS 2021, eq. 6; what it shares with its sibling, and the options, stand in
    `Agnostic`.
    """

    name: ClassVar[str] = "min-max"

    def size(self, squares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the largest of the squared distances."""
        return np.asarray(squares.max(axis=-1))

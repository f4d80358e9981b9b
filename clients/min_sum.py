"""Min-Sum: far from the honest mean, yet in sum no farther from the honest updates than one of them."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fedrobust.attacks.collusion import Agnostic

__all__ = ["MinSum"]


class MinSum(Agnostic):
    """Sends the honest mean, moved until its summed squared distances reach those of an honest update.

    Shejwalkar & Houmansadr, NDSS 2021, eq. 7; what it shares with its sibling, and the options, stand in
    `Agnostic`.
    """

    name: ClassVar[str] = "min-sum"

    def size(self, squares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of the squared distances."""
        return np.asarray(squares.sum(axis=-1))

"""Gaussian: a random direction in place of what was learned."""

from __future__ import annotations

import numpy as np
from pydantic import PositiveFloat

from fedrobust.federation import Attack, Update

__all__ = ["Gaussian"]


class Gaussian(Attack):
    """Sends independent normal numbers as the difference from the global model.

    The Gaussian attack of Blanchard et al., "Machine Learning with Adversaries", NeurIPS 2017, with a std of
    200. Running statistics stay as trained.

    Parameters
    ----------
    std : float, optional
        Standard deviation of each parameter's difference. Unless given it is the root mean square of the
        trained difference, so that the expected squared length is that of an unpoisoned update and only the
        direction is wrong.
    """

    def __init__(self, std: PositiveFloat | None = None) -> None:
        """Keep the option."""
        self.std = std

    def poison_update(self, update: Update) -> Update:
        """Return an update in a random direction."""
        noise = self.rng.standard_normal(len(update.parameters), dtype=np.float32)
        std = self.std
        if std is None:
            std = float(np.sqrt(np.mean(np.square(update.delta, dtype=np.float64))))
        return update.with_delta(np.float32(std) * noise)

"""Neurotoxin: changes only parameters that honest hospitals hardly change, so that a backdoor lasts."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from fedrobust.federation import Attack, Update

__all__ = ["Neurotoxin"]


class Neurotoxin(Attack):
    """Projects the malicious update off the coordinates that honest training moves most.

    Zhang et al., "Neurotoxin: Durable Backdoors in Federated Learning", ICML 2022. The paper projects each
    gradient step off the top k coordinates of the last round's global update; the authors' code takes those
    of a gradient on clean data at the received model. Hospitals keep nothing between rounds here, so it is as
    in that code: the coordinates are those of the honest update, a training on the hospital's clean records.
    The finished update is projected, not each step. It stands after an attack on records, ``backdoor +
    neurotoxin``, and the hospital then trains twice.

    Parameters
    ----------
    top : float
        k, the share of coordinates to leave unchanged; the authors take 0.01 to 0.05. Those that tie with the
        last of them are left unchanged as well.
    """

    needs_honest: ClassVar[bool] = True

    def __init__(self, top: Annotated[float, Field(gt=0, lt=1)] = 0.05) -> None:
        """Keep the option."""
        self.top = top

    def poison_update(self, update: Update) -> Update:
        """Return the update with no movement in the top coordinates of the honest one."""
        delta = update.delta
        moved = np.abs(self.honest.delta)
        quiet = len(delta) - max(1, round(self.top * len(delta)))
        delta[(moved >= np.partition(moved, quiet)[quiet]) & (moved > 0)] = 0
        return update.with_delta(delta)

"""Updates that lower the loss on the server's own images the most."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from fedrobust.aggregation.geometry import significant
from fedrobust.aggregation.tolerance import AssumedByzantine
from fedrobust.federation import Defence, Updates, Verdict
from fedrobust.seeding import generator

__all__ = ["Zeno"]

#: The score of an update with which the loss is not finite: worse than all others.
WORST = 1e30


class Zeno(Defence):
    """Averages the n - b updates of the best stochastic descendant scores (Xie et al., ICML 2019).

    Algorithm
    ---------
    The score of an update is f(x) - f(x + delta_i) - rho |delta_i|^2, f being the mean loss on the server's
    images; the n - b highest are averaged, the lower hospital number first where two are equal. The others
    are flagged. The verdict's score is the negative of the paper's.

    Parameters
    ----------
    b : int, optional
        Updates to leave out, fewer than all. Not given: a third of the hospitals.
    rho : float
        Penalty on length, in the units of the loss: on `phantom` benign updates have |delta|^2 of 1.4 to 4,
        which the default makes 0.07 to 0.2 beside losses of 2 to 5. The paper's rho is for gradients u with
        delta = -gamma u; divided by gamma^2 it is this one.
    images : int, optional
        n_r of the paper: images to draw in each round. Not given: all of the share, in every round.
    share : float
        Share of the server's validation part to use or to draw from, in (0, 1].

    Notes
    -----
    Breakdown point: any number of attackers below n. Cost: n + 1 evaluations of the server's images, and O(n
    d). It needs labelled images of the server's own, here a share of the validation part. Hospitals are
    flagged in every round in which b > 0. Deviation: updates of local trainings take the place of gradient
    steps; a hospital's model is evaluated with its own running statistics.

    References
    ----------
    Xie, Koyejo and Gupta, "Zeno: distributed stochastic gradient descent with suspicion-based
    fault-tolerance", ICML 2019, definition 2.
    """

    needs_server: ClassVar[bool] = True

    def __init__(
        self,
        b: NonNegativeInt | None = None,
        rho: NonNegativeFloat = 0.05,
        images: PositiveInt | None = None,
        share: Annotated[float, Field(gt=0, le=1)] = 0.5,
    ) -> None:
        """Keep the options."""
        self._assumed = AssumedByzantine("zeno", b, lambda n: n - 1, "n >= b + 1", "b")
        self.rho = rho
        self.drawn = images
        self.server_share = share

    def check(self, hospitals: int) -> None:
        """Refuse a b that leaves nobody."""
        self._assumed.check(hospitals)

    def weigh(self, updates: Updates) -> Verdict:
        """Return weight 1 for the n - b best updates, 0 for the others."""
        n = len(updates)
        b, note = self._assumed.at(n)
        score = self._losses(updates) + self.rho * updates.norms() ** 2
        score = np.where(np.isfinite(score), score, WORST)
        chosen = np.zeros(n, bool)
        chosen[np.argsort(significant(score), kind="stable")[: n - b]] = True
        return Verdict(chosen, score, ~chosen, note)

    def _losses(self, updates: Updates) -> NDArray[np.float64]:
        """Return how much each update raises the mean loss on the server's images, shape (n,)."""
        server, some = self.images(), None
        if self.drawn is not None and self.drawn < len(server.labels):
            draw = generator(updates.seed, "zeno", updates.round)
            some = np.sort(draw.choice(len(server.labels), self.drawn, replace=False))
        before = float(server.losses(updates.global_parameters, updates.global_buffers, some).mean())
        # One model at a time: mixed updates are made when they are asked for.
        after = [server.losses(update.parameters, update.buffers, some).mean() for update in updates]
        return np.asarray(after, np.float64) - before

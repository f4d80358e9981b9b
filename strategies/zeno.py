"""Updates that lower the loss on the server's own images the most."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fedrobust.aggregation.geometry import above_zero_to_one, significant, whole
from fedrobust.aggregation.tolerance import AssumedByzantine
from fedrobust.errors import UserError
from fedrobust.federation import Defence, Updates, Verdict
from fedrobust.seeding import generator

__all__ = ["Zeno"]

#: The score of an update under which the loss is no number any more: worse than all others.
WORST = 1e30


class Zeno(Defence):
    """Averages the n - b updates of the best stochastic descendant scores (Xie et al., ICML 2019).

    Definition 2 with whole local trainings in place of gradient steps: f(x) - f(x + delta_i) - rho |delta_i|^2, f
    being the mean loss on the server's images. Of two equal scores the lower hospital number goes first. A hospital's
    model is tried with its own running statistics. The verdict's score is the negative of the paper's. Those left out
    are flagged, so somebody is flagged in every round in which b > 0. It works with any number of attackers below n.

    It needs labelled images of the server's own, here a share of the validation part. n + 1 evaluations of the
    images, and O(n d).

    Parameters
    ----------
    b : int, optional
        Updates to leave out, fewer than all. Not given: a third of the hospitals.
    rho : float
        What length costs, to be weighed against the losses: on `phantom` honest updates have |delta|^2 of 1.4 to 4,
        which the default makes 0.07 to 0.2 beside losses of 2 to 5. The paper's rho is for gradients u with
        delta = -gamma u; divided by gamma^2 it is this one.
    images : int, optional
        n_r of the paper: images to draw anew in each round. Not given: all of the share, in every round.
    share : float
        Share of the server's validation part to use or to draw from, in (0, 1].
    """

    needs_server: ClassVar[bool] = True

    def __init__(
        self, b: int | None = None, rho: float = 0.05, images: int | None = None, share: float = 0.5
    ) -> None:
        """Check the options."""
        self._b = AssumedByzantine("zeno", b, lambda n: n - 1, "n >= b + 1", "b")
        if isinstance(rho, bool) or not 0 <= rho < float("inf"):
            raise UserError(f"zeno: rho is {rho}, but must be 0 or more")
        self.rho = rho
        self.drawn = None if images is None else whole("zeno", "images", images, 1)
        self.server_share = above_zero_to_one("zeno", "share", share)

    def check(self, hospitals: int) -> None:
        """Refuse a b that leaves nobody."""
        self._b.check(hospitals)

    def weigh(self, updates: Updates) -> Verdict:
        """Return weight 1 for the n - b best updates, 0 for the others."""
        n = len(updates)
        b, note = self._b.at(n)
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
        # One whole model at a time: mixed updates are made when they are asked for.
        after = [server.losses(update.parameters, update.buffers, some).mean() for update in updates]
        return np.asarray(after, np.float64) - before

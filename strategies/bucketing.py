"""Means over random groups of hospitals."""

from __future__ import annotations

import numpy as np

from fedrobust.aggregation.geometry import whole
from fedrobust.federation import PreAggregation, Updates
from fedrobust.federation.mixed import Mixed
from fedrobust.seeding import generator

__all__ = ["Bucketing"]


class Bucketing(PreAggregation):
    """Averages random groups of s updates before a rule sees them (Karimireddy et al., ICLR 2022).

    Algorithm 1: the updates are permuted at random, anew in each round, and each s of them give one; the last
    group may be smaller. A group goes under its lowest hospital number, which differs from round to round, so
    rules that remember hospitals make little of it. Scores and flags of a group are reported for each
    hospital in it. One attacker spoils a whole group: the next rule's f stays, for fewer updates.

    Parameters
    ----------
    s : int
        Updates in a group; the paper takes 2.
    """

    def __init__(self, s: int = 2) -> None:
        """Check the option."""
        self.s = whole("bucketing", "s", s, 1)

    def check(self, hospitals: int) -> int:
        """Return the number of groups."""
        return -(-hospitals // self.s)

    def transform(self, updates: Updates) -> Updates:
        """Return the groups' means."""
        n = len(updates)
        order = generator(updates.seed, "bucketing", updates.round).permutation(n).tolist()
        groups = [sorted(order[start : start + self.s]) for start in range(0, n, self.s)]
        mixing = np.zeros((len(groups), n))
        for row, group in enumerate(groups):
            mixing[row, group] = 1 / len(group)
        return Mixed(updates, mixing, groups)

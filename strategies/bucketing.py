"""Means over random groups of hospitals."""

from __future__ import annotations

import numpy as np
from pydantic import PositiveInt

from fedrobust.federation import PreAggregation, Updates
from fedrobust.federation.mixed import Mixed
from fedrobust.seeding import generator

__all__ = ["Bucketing"]


class Bucketing(PreAggregation):
    """Averages random groups of s updates before a rule sees them (Karimireddy et al., ICLR 2022).

    Algorithm
    ---------
    In each round the updates are permuted at random, and each s of them are averaged to one; the last group
    may be smaller. A group has its lowest hospital number. The scores and flags of a group are reported for
    each hospital in it.

    Parameters
    ----------
    s : int
        Updates in a group; the paper takes 2.

    Notes
    -----
    Breakdown point: an s-th of the next rule's, as one attacker spoils its whole group: the next rule's f
    stays, for fewer updates. Cost: O(n d). Groups differ from round to round, so rules that remember
    hospitals gain little from it.

    References
    ----------
    Karimireddy, He and Jaggi, "Byzantine-robust learning on heterogeneous datasets via bucketing", ICLR 2022,
    algorithm 1.
    """

    def __init__(self, s: PositiveInt = 2) -> None:
        """Keep the option."""
        self.s = s

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

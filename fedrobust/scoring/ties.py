"""Ties between hospitals: what two updates have in common beyond what all updates have in common."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["TieMemory", "most_tied", "residual_cosines", "shared_help"]

Floats = NDArray[np.float64]

#: Fewer than a third of the hospitals are taken to collude: at most a ninth of all pairs are theirs, and at
#: most a third loses weight by its ties.
COLLUDING = 1 / 3
#: The smallest standard deviation between benign pairs. Of like hospitals the mean over ten rounds has .03 to
#: .04, of which .03 is the noise of the rounds (brain_mri4_28 and pneumoniamnist, iid).
SMALL_TIE = 0.02
#: A tie of two hospitals that both help one class more than others do is explained up to so many times that
#: help: of what hospitals of one class have in common, the gradient shows a part (pneumoniamnist,
#: dirichlet(0.3): ties up to .74 between hospitals that help a class by .4 more than the median).
EXPLAINED = 2.0


def residual_cosines(gram: ArrayLike, weight: Floats) -> Floats:
    """Return the cosines between updates less their projections on the others' weighted sum, shape (n, n).

    Of hospitals that train on different images they are about -1 / (n - 1). Hospitals with a common aim that
    the others lack, such as a trigger, have positive ones in every round.

    Parameters
    ----------
    gram : array_like, shape (n, n)
        Inner products of the updates.
    weight : ndarray, shape (n,)
        The weight of each in the others' sum, not negative.

    Returns
    -------
    ndarray, shape (n, n)
        0 on the diagonal and beside an update that is a multiple of the others' sum.
    """
    g = np.asarray(gram, np.float64)
    own = np.eye(len(g), dtype=bool)
    others = np.where(own, 0.0, weight)
    along = others @ g
    squares = (along * others).sum(axis=1)
    share = np.divide(np.diagonal(along), squares, out=np.zeros(len(g)), where=squares > 0)
    rest = np.eye(len(g)) - share[:, None] * others
    inner = rest @ g @ rest.T
    length = np.sqrt(np.maximum(np.diagonal(inner), 0.0))
    # What rounding leaves of a multiple of the others' sum has no direction.
    known = length > 1e-6 * np.sqrt(np.maximum(np.diagonal(g), 0.0))
    found = np.outer(known, known) & ~own
    return np.asarray(np.divide(inner, np.outer(length, length), out=np.zeros_like(inner), where=found))


def shared_help(classes: Floats) -> Floats:
    """Return by how much two hospitals both help one class more than the median hospital does, shape (n, n).

    Parameters
    ----------
    classes : ndarray, shape (n, K)
        What each update does to each class (see `audit_updates`); negative is help. The largest over the
        classes counts.
    """
    more = np.maximum(np.median(classes, axis=0) - classes, 0.0)
    return np.asarray(np.minimum(more[:, None, :], more[None, :, :]).max(axis=2, initial=0.0))


class TieMemory:
    """The decayed mean of each pair's residual cosine over the rounds in which both replied.

    Parameters
    ----------
    memory : float
        Weight of the past, in [0, 1).
    """

    def __init__(self, memory: float) -> None:
        """Start without any pair."""
        self._memory = memory
        self._places: dict[int, int] = {}
        #: The pairs that have replied together, as sorted numbers; of each the decayed sum of cosines, the
        #: number of rounds, and the sum of squared deviations.
        self._pairs, self._sums = np.zeros(0, np.int64), np.zeros((3, 0))

    def add(self, nodes: Sequence[int], cosines: Floats, shared: Floats) -> Floats:
        """Add a round's cosines; return each pair's z-score, shape (n, n), 0 on the diagonal.

        The mean cosine, less what help for the same class explains, is divided by a standard deviation of two
        parts: that between benign pairs, which also differ permanently (from the quantile below which all
        pairs are benign, nothing explained), and that of the mean over rounds.

        Parameters
        ----------
        nodes : sequence of int, length n
        cosines, shared : ndarray, shape (n, n)
            See `residual_cosines` and `shared_help`.
        """
        upper = np.triu_indices(len(nodes), 1)
        found = self._found(nodes, upper)
        cosine = cosines[upper]
        total, rounds, squares = self._sums[:, found]
        usual = np.full_like(cosine, np.median(cosine))
        deviation = np.abs(cosine - np.divide(total, rounds, out=usual, where=rounds > 0))
        noise = 1.4826 * float(np.median(deviation))
        total, rounds = self._memory * total + cosine, self._memory * rounds + 1
        squares = self._memory**2 * squares + noise**2
        self._sums[:, found] = total, rounds, squares
        # As if one round without any tie had gone before: a single round proves little.
        tie = total / (rounds + 1)
        benign = 1 - COLLUDING**2
        between = float(np.quantile(tie, benign)) / NormalDist().inv_cdf(benign)
        deviation = np.sqrt(max(between, SMALL_TIE) ** 2 + squares / rounds**2)
        score = np.zeros_like(cosines)
        score[upper] = (tie - EXPLAINED * shared[upper]) / deviation
        return score + score.T

    def _found(self, nodes: Sequence[int], upper: tuple[NDArray[np.int64], ...]) -> NDArray[np.int64]:
        """Return where the sums of these pairs are; pairs that are new get a place."""
        place = np.array([self._places.setdefault(node, len(self._places)) for node in nodes], np.int64)
        later, earlier = np.maximum(*place[list(upper)]), np.minimum(*place[list(upper)])
        pairs = later * (later - 1) // 2 + earlier
        # Not all pairs: of 10,000 hospitals of which 100 reply in a round, all would need gigabytes.
        new = np.setdiff1d(pairs, self._pairs)
        where = np.searchsorted(self._pairs, new)
        self._pairs = np.insert(self._pairs, where, new)
        self._sums = np.insert(self._sums, where, 0.0, axis=1)
        return np.asarray(np.searchsorted(self._pairs, pairs))

    def state(self) -> Mapping[str, Any]:
        """Return the places and the sums by pair."""
        return {"places": self._places, "pairs": self._pairs, "sums": self._sums}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back the places and the sums by pair."""
        self._places, self._pairs = dict(state["places"]), np.array(state["pairs"], np.int64)
        self._sums = np.array(state["sums"], np.float64)


def most_tied(scores: Floats) -> NDArray[np.bool_]:
    """Return which hospitals may lose weight by their ties, shape (n,): the third that is tied the most."""
    # An attacker that imitates benign hospitals ties each of them to itself, but is tied to all of them.
    tied = np.maximum(scores, 0.0).sum(axis=1)
    chosen = np.zeros(len(tied), bool)
    chosen[np.argsort(-tied, kind="stable")[: math.ceil(len(tied) * COLLUDING)]] = True
    return chosen

"""Fang: the global model moves against the direction it would have taken, made for a given defence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedrobust.aggregation.geometry import krum_scores
from fedrobust.attacks.collusion import alike, seen, warn_alone
from fedrobust.data.records import Records
from fedrobust.federation import Attack, Update, Updates, Vector
from fedrobust.federation.blocks import one_blas_thread
from fedrobust.plugins.options import Fraction

__all__ = ["Fang"]


class Fang(Attack):
    """Sends what moves a defence's result farthest against the direction s of the honest mean.

    Fang et al., "Local Model Poisoning Attacks to Byzantine-Robust Federated Learning", USENIX Security 2020.
    Against ``krum`` (section 4.2): the global model minus lambda s, the same from all colluders, with the
    largest lambda, halved from Theorem 1's bound, for which Krum chooses it. With partial knowledge the
    colluders' own updates stand in for the honest ones and as many copies are added as that takes; Krum then
    tolerates as many attackers as copies. Against ``trimmed-mean`` and ``median`` (section 4.3), in each
    parameter a number drawn beyond all honest ones (full) or at 3 to 4 standard deviations (partial; a single
    colluder knows no deviation and stays as it is).

    Parameters
    ----------
    against : str
        ``krum``, ``trimmed-mean`` or ``median``; the last two are the same attack.
    knowledge : str
        ``all`` is the paper's full knowledge, ``colluders`` its partial knowledge.
    strength : float
        The share of the way from the hospital's own update to the forged one; 1 is the paper, 0 an honest
        hospital.
    """

    knowledge: Literal["own", "colluders", "all"] = "all"

    def __init__(
        self,
        against: Literal["krum", "trimmed-mean", "median"] = "trimmed-mean",
        knowledge: Literal["colluders", "all"] = "all",
        strength: Fraction = 1.0,
    ) -> None:
        """Keep the options."""
        self.strength, self.against, self.knowledge = strength, against, knowledge

    def check(self, records: Records) -> None:
        """Warn where the attack has no effect."""
        if self.role.members == 1 and self.knowledge == "colluders" and self.against != "krum":
            warn_alone("fang")

    @one_blas_thread()
    def collude(self, colluders: Sequence[Update], honest: Sequence[Update]) -> list[Update]:
        """Return the colluders' updates against the defence."""
        updates = seen(colluders, honest)
        start = updates.global_parameters
        signs = np.where(updates.mean(np.ones(len(updates))) >= start, 1, -1).astype(np.float32)
        if self.against == "krum":
            most = 0 if honest else len(colluders)
            step = against_krum(updates, signs, len(colluders), most)
            crafted = (start - np.float32(step) * signs).astype(np.float32)
            return alike(colluders, crafted, self.strength)
        low, high = _extremes(updates) if honest else _tails(updates)
        sent = []
        for update in colluders:
            drawn = self.rng.random(len(start), dtype=np.float32)
            below, above = (edge[0] + drawn * (edge[1] - edge[0]) for edge in (low, high))
            sent.append(alike([update], np.where(signs > 0, below, above), self.strength)[0])
        return sent


def _extremes(updates: Updates) -> tuple[tuple[Vector, Vector], tuple[Vector, Vector]]:
    """Return the ranges beyond all honest parameters: to twice as far from 0, or half as near to it."""
    low, high = (updates.by_coordinate(rule) for rule in (lambda b: b.min(axis=0), lambda b: b.max(axis=0)))
    return (np.where(low > 0, low / 2, low * 2), low), (high, np.where(high > 0, high * 2, high / 2))


def _tails(updates: Updates) -> tuple[tuple[Vector, Vector], tuple[Vector, Vector]]:
    """Return the ranges 3 to 4 standard deviations below and above the mean of the colluders' parameters."""
    mean = updates.mean(np.ones(len(updates)))
    std = updates.by_coordinate(lambda block: block.astype(np.float64).std(axis=0))
    return (mean - 4 * std, mean - 3 * std), (mean + 3 * std, mean + 4 * std)


def against_krum(updates: Updates, signs: Vector, c: int, most: int) -> float:
    """Return the largest lambda, halved from Theorem 1's bound, for which Krum takes the crafted model.

    Parameters
    ----------
    updates : Updates
        Honest ones, or the colluders' own in their place.
    signs : ndarray of float32, shape (d,)
        The direction s, 1 or -1.
    c : int
        Colluders. Krum tolerates as many, or the most that it can: 2 c + 3 <= n.
    most : int
        0: all c send the crafted model beside the updates. More: 1, 2, ... up to so many are tried beside
        them, and Krum tolerates those.
    """
    gram, d = updates.gram(), len(signs)
    norms = np.diagonal(gram)
    squares = np.maximum(norms[:, None] + norms - 2 * gram, 0.0)
    along = np.zeros(len(updates))
    for part, block in updates.deltas():
        along += block.astype(np.float64) @ signs[part]
    for crafted in range(1, most + 1) if most else [c]:
        step = bound = _bound(squares, norms, d, len(updates) + crafted, crafted)
        # The paper ends at 1e-5; as a share of the bound, that is the same for small updates as for large
        # ones.
        while step > 1e-5 * bound:
            to_crafted = np.maximum(step**2 * d + 2 * step * along + norms, 0.0)
            if _chosen(squares, to_crafted, crafted, first=bool(most)):
                return step
            step /= 2
    return step


def _bound(squares: NDArray[np.float64], norms: NDArray[np.float64], d: int, m: int, c: int) -> float:
    """Return Theorem 1's upper bound of lambda for m models, c of them crafted."""
    near = np.sqrt(np.sort(squares, axis=1))[:, 1 : 1 + max(1, m - c - 2)].sum(axis=1).min()
    return float((near / max(1, m - 2 * c - 1) + np.sqrt(norms.max())) / np.sqrt(d))


def _chosen(squares: NDArray[np.float64], to_crafted: NDArray[np.float64], crafted: int, first: bool) -> bool:
    """Tell whether Krum takes a crafted model, all being equal; `first` if they win ties."""
    n = len(squares)
    table = np.zeros((n + crafted, n + crafted))
    table[crafted:, crafted:] = squares
    table[:crafted, crafted:] = to_crafted
    table[crafted:, :crafted] = to_crafted[:, None]
    scores = krum_scores(table, min(crafted, max(0, (len(table) - 3) // 2)))
    rest = scores[crafted:].min()
    return bool(scores[0] <= rest if first else scores[0] < rest)

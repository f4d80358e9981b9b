"""Hospitals whose updates point the same way round after round lose their weight, as one attacker's would."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat

from fedrobust.aggregation.geometry import cosines
from fedrobust.aggregation.sketch import sketch
from fedrobust.federation import Defence, State, Updates, Verdict

__all__ = ["FoolsGold"]

Floats = NDArray[np.float64]


class FoolsGold(Defence):
    """Lowers the weight of hospitals whose summed updates are alike (Fung et al., RAID 2020, algorithm 1).

    Algorithm
    ---------
    Cosines are taken between the sums of each hospital's updates over all rounds, pardoned, and turned into
    weights by a logit, all as in the paper, on all parameters. The score is the largest pardoned cosine.

    Parameters
    ----------
    confidence : float
        kappa, the logit's factor; the paper takes 1.

    Notes
    -----
    Breakdown point: none; any number of hospitals that send like updates lose their weight, a single attacker
    does not. Cost: O(n^2 + n d). Deviations: the weights are scaled to sum to 1, as the paper adds the
    weighted updates of single steps and here they are those of local trainings; if all are alike, the global
    model stays. The sums are kept as sketches (`fedrobust.aggregation.sketch`), exact up to 16384 parameters.
    Benign hospitals whose data are alike lose their weight too: it suits heterogeneous hospitals.

    References
    ----------
    Fung, Yoon and Beschastnikh, "The limitations of federated learning in Sybil settings", RAID 2020.
    """

    def __init__(self, confidence: PositiveFloat = 1.0) -> None:
        """Keep the option."""
        self.confidence = confidence
        self._sums: dict[int, Floats] = {}

    def weigh(self, updates: Updates) -> Verdict:
        """Return weights by the similarity of the hospitals' histories."""
        for node, row in zip(updates.nodes, sketch(updates), strict=True):
            self._sums[node] = self._sums[node] + row if node in self._sums else row
        history = np.stack([self._sums[node] for node in updates.nodes])
        score = _pardoned(cosines(history @ history.T)) if len(updates) > 1 else np.zeros(1)
        return Verdict(_logit(1 - score, self.confidence), score)

    def state(self) -> State:
        """Return the sums by hospital."""
        return {"sums": self._sums}

    def load_state(self, state: State) -> None:
        """Take back the sums by hospital."""
        self._sums = dict(state["sums"])


def _pardoned(similar: Floats) -> Floats:
    """Return each hospital's largest cosine with another, reduced where the other has a closer match."""
    alike = similar.copy()
    # As in the authors' code, where a hospital's cosine with itself is 0: the largest is never negative.
    np.fill_diagonal(alike, 0.0)
    largest = alike.max(axis=1)
    # Where j has a closer match elsewhere than i has, their cosine is reduced for i.
    pardon = largest[None, :] > largest[:, None]
    ratio = np.divide(largest[:, None], largest[None, :], out=np.ones_like(similar), where=pardon)
    return np.asarray((alike * ratio).max(axis=1))


def _logit(trust: Floats, confidence: float) -> Floats:
    trust = np.clip(trust, 0.0, 1.0)
    if trust.max() <= 1e-9:
        return np.zeros(len(trust))
    # The authors' code takes 0.99 for 1, where the logit is infinite; it makes no difference after the clip.
    trust = np.clip(trust / trust.max(), 1e-12, 0.99)
    return np.asarray(np.clip(confidence * (np.log(trust / (1 - trust)) + 0.5), 0.0, 1.0))

"""Hospitals whose updates point the same way round after round are taken for one attacker's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrobust.aggregation.geometry import cosines
from fedrobust.aggregation.sketch import sketch
from fedrobust.errors import UserError
from fedrobust.federation import Defence, Updates, Verdict

__all__ = ["FoolsGold"]

Floats = NDArray[np.float64]


class FoolsGold(Defence):
    """Lowers the weight of hospitals whose summed updates are alike (Fung et al., RAID 2020, algorithm 1).

    Cosines are taken between the sums of each hospital's updates over all rounds, pardoned, and turned into
    weights by a logit, all as in the paper, on all parameters. The weights are scaled to sum to 1: the paper
    adds the weighted updates of single steps, here they are whole local trainings. If all are alike, the
    global model stays. The sums are kept as sketches (`fedrobust.aggregation.sketch`), exact up to 16384 parameters. The
    score is the largest pardoned cosine. Hospitals that are honest and alike are its victims: it suits very
    unlike hospitals.

    Parameters
    ----------
    confidence : float
        kappa, the logit's factor; the paper takes 1.
    """

    def __init__(self, confidence: float = 1.0) -> None:
        """Check the options."""
        if not confidence > 0:
            raise UserError(f"foolsgold: confidence is {confidence}, but must be above 0")
        self.confidence = confidence
        self._sums: dict[int, Floats] = {}

    def weigh(self, updates: Updates) -> Verdict:
        """Return weights by the similarity of the hospitals' histories."""
        for node, row in zip(updates.nodes, sketch(updates), strict=True):
            self._sums[node] = self._sums[node] + row if node in self._sums else row
        history = np.stack([self._sums[node] for node in updates.nodes])
        score = _pardoned(cosines(history @ history.T)) if len(updates) > 1 else np.zeros(1)
        return Verdict(_logit(1 - score, self.confidence), score)

    def state(self) -> dict[str, Any]:
        """Return the sums by hospital."""
        return {"sums": self._sums}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back the sums by hospital."""
        self._sums = dict(state["sums"])


def _pardoned(similar: Floats) -> Floats:
    """Return each hospital's largest cosine with another, honest ones beside a closer pair pardoned."""
    alike = similar.copy()
    # As in the authors' code, where a hospital's cosine with itself is 0: the largest is never negative.
    np.fill_diagonal(alike, 0.0)
    largest = alike.max(axis=1)
    # Where j has a closer likeness elsewhere than i has, their cosine is not held against i.
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

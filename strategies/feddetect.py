"""FedDetect, its authors' rule to the letter: an isolation forest on one reported loss per hospital."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, NonNegativeInt

from fedrobust.federation import Defence, State, Updates, Verdict

__all__ = ["FedDetect"]


class FedDetect(Defence):
    """Decays the weight of hospitals with an outlying reported loss (Jin and Li, Med. Image Anal. 2023).

    Algorithm
    ---------
    As the authors' code has it: in each round after the warm-up, the points (0, |last mini-batch's loss|) of
    the N hospitals go into an isolation forest; let F be the outliers. If fewer than N // 2 are outliers,
    each k of F gets count_k += 1 and w_k *= decay ** count_k, and the weights are scaled to sum to 1. Weights
    start at 1 / N and never recover.

    Parameters
    ----------
    decay : float
        d in (0, 1]; the authors use 0.9.
    warm_up : int
        Rounds without a verdict; the authors use 10.

    Notes
    -----
    Breakdown point: none, as a hospital that reports a usual loss is never found; both sides of the losses
    count as outlying. Cost: O(n d) and a forest on n points. It is kept unchanged for comparison:
    docs/detection.md shows its effect on benign hospitals.

    References
    ----------
    Jin and Li, "Backdoor attack and defense in federated generative adversarial network-based medical image
    synthesis", Medical Image Analysis 2023, algorithm 1.
    """

    trusts: ClassVar[frozenset[str]] = frozenset({"loss"})

    def __init__(
        self, decay: Annotated[float, Field(gt=0, le=1)] = 0.9, warm_up: NonNegativeInt = 10
    ) -> None:
        """Keep the options."""
        self.decay = decay
        self.warm_up = warm_up
        self._factors: dict[int, float] = {}
        self._counts: dict[int, int] = {}

    def preload(self) -> None:
        """Import scikit-learn's forest."""
        import sklearn.ensemble  # noqa: F401

    def weigh(self, updates: Updates) -> Verdict:
        """Return the cumulative weights after this round's outliers are counted."""
        for node in updates.nodes:
            self._factors.setdefault(node, 1.0)
            self._counts.setdefault(node, 0)
        losses = updates.reported("last-loss")
        score, outlying = _outliers(losses)
        # The authors' guard: with as many outliers as half of the hospitals there is no verdict in this
        # round.
        acts = updates.round > self.warm_up and outlying.sum() < len(updates) // 2
        flagged = outlying & acts
        if acts:
            for node in np.array(updates.nodes)[flagged].tolist():
                self._counts[node] += 1
                self._factors[node] *= self.decay ** self._counts[node]
        # The authors scale to a sum of 1 in each round; once on use is the same, if no factor underflows. A
        # power of two changes no bits.
        if largest := max(self._factors.values()):
            halvings = 1 - math.frexp(largest)[1]
            self._factors = {node: math.ldexp(factor, halvings) for node, factor in self._factors.items()}
        factors = np.array([self._factors[node] for node in updates.nodes])
        weight = factors / factors.sum() if factors.any() else np.full(len(factors), 1 / len(factors))
        why = [
            f"flagged {self._counts[node]} times so far" if self._counts[node] else ""
            for node in updates.nodes
        ]
        return Verdict(weight, score, flagged, why)

    def state(self) -> State:
        """Return decay factors and counts by hospital."""
        return {"factors": self._factors, "counts": self._counts}

    def load_state(self, state: State) -> None:
        """Take back decay factors and counts by hospital."""
        self._factors, self._counts = dict(state["factors"]), dict(state["counts"])


def _outliers(losses: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[Any, Any]:
    """Return each loss's anomaly score (higher is worse) and whether the forest calls it an outlier."""
    from sklearn.ensemble import IsolationForest

    finite = np.isfinite(losses)
    # A hospital that reports no number counts as the worst; the bound keeps a huge one within the forest's
    # float32.
    size = np.where(finite, np.minimum(np.abs(losses), 1e30), 0.0)
    known = np.where(finite, size, size.max())
    points = np.column_stack([np.zeros(len(known)), known])
    forest = IsolationForest(max_samples=len(known), contamination="auto", random_state=0)
    outlying = forest.fit_predict(points) == -1
    return -forest.score_samples(points), outlying

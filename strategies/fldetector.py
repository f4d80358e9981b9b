"""Hospitals are flagged whose updates do not follow from their last ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from fedrobust.aggregation.sketch import sketch, sketch_global
from fedrobust.federation import Defence, State, Updates, Verdict
from fedrobust.federation.blocks import one_blas_thread
from fedrobust.seeding import generator

__all__ = ["FLDetector"]

Floats = NDArray[np.float64]

#: Reference sets of the gap statistic.
REFERENCES = 20


class FLDetector(Defence):
    """Flags hospitals whose updates are badly predicted from their own past (Zhang et al., KDD 2022).

    Algorithm
    ---------
    An update is predicted as the hospital's last one plus an L-BFGS estimate of the integrated Hessian times
    the global model's last step. The score is the distance to the prediction, scaled to mean 1 over the
    hospitals that replied and averaged over `window` rounds. If the gap statistic finds more than one cluster
    of scores, the higher of two is flagged and weighs nothing. Scoring begins in round 3; nobody is flagged
    before `window` rounds are scored.

    Parameters
    ----------
    window : int
        N, for the average and for L-BFGS; the paper takes 10.

    Notes
    -----
    Breakdown point: none is proven; a malicious majority is the lower cluster. Cost: O(n d). Deviations: the
    paper scales to sum 1, which is the same where all hospitals reply; it restarts the training without the
    flagged hospitals, while here training continues and each round judges again. Updates are remembered as
    sketches (`fedrobust.aggregation.sketch`), exact up to 16384 parameters. A
    hospital is scored in rounds that follow one in which it replied, so where few take part in a round, few
    are ever judged.

    References
    ----------
    Zhang, Cao, Jia and Gong, "FLDetector: defending federated learning against model poisoning attacks via
    detecting malicious clients", KDD 2022, equation 2 and algorithms 1 to 3.
    """

    def __init__(self, window: PositiveInt = 10) -> None:
        """Keep the option."""
        self.window = window
        self._last: dict[int, Floats] = {}
        self._scores: dict[int, list[float]] = {}
        #: The last global model and mean update; then how both changed between rounds.
        self._model: Floats | None = None
        self._mean: Floats | None = None
        self._steps: list[Floats] = []
        self._changes: list[Floats] = []

    def weigh(self, updates: Updates) -> Verdict:
        """Return weight 0 for the cluster of badly predicted hospitals."""
        now, model = sketch(updates), sketch_global(updates)
        if self._steps and self._model is not None:
            self._score(updates.nodes, now, model - self._model)
        scored = [self._scores.get(node, []) for node in updates.nodes]
        score = np.array([np.mean(row) if row else np.nan for row in scored])
        ready = np.array([len(row) >= self.window for row in scored])
        flagged = np.zeros(len(updates), bool)
        if ready.sum() > 2:
            flagged[ready] = _higher_cluster(
                score[ready], generator(updates.seed, "fldetector", updates.round)
            )
        self._remember(updates.nodes, now, model, now[~flagged].mean(axis=0))
        return Verdict(~flagged, score, flagged)

    @one_blas_thread()
    def _score(self, nodes: tuple[int, ...], now: Floats, step: Floats) -> None:
        known = [place for place, node in enumerate(nodes) if node in self._last]
        if not known:
            return
        change = _hessian_product(np.array(self._steps), np.array(self._changes), step)
        errors = np.array([np.linalg.norm(self._last[nodes[k]] + change - now[k]) for k in known])
        # Mean 1 in place of sum 1, so that a round in which few replied weighs no more on those than any
        # other.
        usual = errors.mean() or 1.0
        for k, error in zip(known, errors, strict=True):
            self._scores[nodes[k]] = [*self._scores.get(nodes[k], []), float(error / usual)][-self.window :]

    def _remember(self, nodes: tuple[int, ...], now: Floats, model: Floats, mean: Floats) -> None:
        if self._model is not None and self._mean is not None and np.any(model != self._model):
            self._steps = [*self._steps, model - self._model][-self.window :]
            self._changes = [*self._changes, mean - self._mean][-self.window :]
        self._model, self._mean = model, mean
        # Only the round before counts as a hospital's last update.
        self._last = dict(zip(nodes, now, strict=True))

    def state(self) -> State:
        """Return the last updates, scores, models and steps."""
        return {
            "last": self._last,
            "scores": self._scores,
            "model": self._model,
            "mean": self._mean,
            "steps": self._steps,
            "changes": self._changes,
        }

    def load_state(self, state: State) -> None:
        """Take back the last updates, scores, models and steps."""
        self._last, self._scores = dict(state["last"]), dict(state["scores"])
        self._model, self._mean = state["model"], state["mean"]
        self._steps, self._changes = state["steps"], state["changes"]


def _hessian_product(steps: Floats, changes: Floats, vector: Floats) -> Floats:
    """Return B v for the L-BFGS matrix B of the pairs (Byrd, Nocedal and Schnabel, 1994, theorem 2.3).

    Parameters
    ----------
    steps, changes : ndarray, shape (m, d)
        Of the variable and of the gradient, oldest first. B is the same whether gradients or negated ones are
        given, but for its sign, so differences from the global model serve.
    vector : ndarray, shape (d,)
    """
    cross = steps @ changes.T
    sigma = cross[-1, -1] / (steps[-1] @ steps[-1])
    lower = np.tril(cross, -1)
    middle = np.block([[sigma * (steps @ steps.T), lower], [lower.T, -np.diag(np.diagonal(cross))]])
    sides = np.concatenate([sigma * steps, changes])
    # Least squares, as pairs of a stalled training are not independent.
    inner = np.linalg.lstsq(middle, sides @ vector, rcond=None)[0]
    return np.asarray(sigma * vector - inner @ sides)


def _higher_cluster(scores: Floats, draw: np.random.Generator) -> NDArray[np.bool_]:
    """Return who is in the higher of two clusters; nobody if the gap statistic prefers one cluster."""
    extent = scores.max() - scores.min()
    if extent <= 1e-12:
        return np.zeros(len(scores), bool)
    scaled = (scores - scores.min()) / extent
    reference = np.log([_dispersions(draw.random(len(scores)))[0] for _ in range(REFERENCES)])
    one, two = reference.mean(axis=0)
    within, edge = _dispersions(scaled)
    # Tibshirani et al. (2001): the smallest k with gap(k) >= gap(k + 1) - s(k + 1); only whether that is 1
    # matters.
    slack = reference[:, 1].std() * np.sqrt(1 + 1 / REFERENCES)
    with np.errstate(divide="ignore"):
        gap_one, gap_two = one - np.log(within[0]), two - np.log(within[1])
    return np.asarray(scaled > edge) if gap_one < gap_two - slack else np.zeros(len(scores), bool)


def _dispersions(values: Floats) -> tuple[Floats, float]:
    """Return the sums of squares within one and within two clusters, and the lower one's largest value."""
    ordered = np.sort(values)

    def within(part: Floats) -> float:
        return float(((part - part.mean()) ** 2).sum())

    splits = [within(ordered[:k]) + within(ordered[k:]) for k in range(1, len(ordered))]
    best = int(np.argmin(splits))
    return np.array([within(ordered), splits[best]]), float(ordered[best])

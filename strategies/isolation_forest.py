"""Isolation-forest weighting: evidence of a high loss, held against a reference of honest but odd hospitals."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fedrobust.errors import UserError
from fedrobust.federation import Defence, Updates, Verdict
from fedrobust.seeding import generator

__all__ = ["IsolationForestWeighting"]

Floats = NDArray[np.float64]

#: Spreads above the others beyond which a loss is no more telling.
CEILING = 10.0
#: The spread between hospitals counts as no smaller than this share of their typical loss.
FLOOR = 0.1
#: Drawn hospitals in the reference, and the heaviness of their tails (degrees of freedom of Student's t).
REFERENCE = 4000
TAIL = 3
#: The name of each feature in a verdict's words.
_FEATURES = ("loss of the received model on its records", "training loss")


class IsolationForestWeighting(Defence):
    """Lowers the weight of hospitals whose losses stay too high, judged by an isolation forest.

    Each round, two losses of each hospital are put in spreads (robust standard deviations) above the others: that of
    the received model on the hospital's own records, compared class by class so that an unusual mix of findings does
    not count, and its training loss. Only the high side counts. A moving average over rounds is the evidence. An
    isolation forest (Liu et al., ICDM 2008), fitted on a drawn reference of honest hospitals some of which are odd
    for good, scores the evidence; p is the share of the reference that scores as high. A hospital is flagged where
    p < false_flag_rate and then weighs (p / false_flag_rate)^2 of a fair share, until its evidence fades again.
    The reasoning and the measurements are in docs/detection.md. The losses are the hospitals' own claims.

    Complexity O(n K) beside the mean; no history but the evidence. Works for 4 hospitals or more; with fewer there is
    no spread to compare with and all weigh the same.

    Parameters
    ----------
    false_flag_rate : float
        Share of the reference's honest hospitals that would be flagged, in (0, 0.5].
    memory : float
        Weight of the past in the moving average, in [0, 1).
    """

    trusts: ClassVar[frozenset[str]] = frozenset({"loss"})

    def __init__(self, false_flag_rate: float = 0.01, memory: float = 0.8) -> None:
        """Check the options."""
        if not 0 < false_flag_rate <= 0.5:
            raise UserError(
                f"isolation-forest: false_flag_rate is {false_flag_rate}, but must lie in (0, 0.5]"
            )
        if not 0 <= memory < 1:
            raise UserError(f"isolation-forest: memory is {memory}, but must lie in [0, 1)")
        self.false_flag_rate = false_flag_rate
        self.memory = memory
        self._evidence: dict[int, list[float]] = {}

    def preload(self) -> None:
        """Import scikit-learn's forest."""
        import sklearn.ensemble  # noqa: F401

    def weigh(self, updates: Updates) -> Verdict:
        """Return weights by the tail probability of each hospital's evidence."""
        evidence = self._gather(updates)
        if len(updates) < 4:
            return Verdict(np.ones(len(updates)))
        score, p = _judge(evidence, len(updates))
        flagged = p < self.false_flag_rate
        weight = np.minimum(1.0, p / self.false_flag_rate) ** 2
        if not weight.any():
            weight = np.ones(len(updates))
        why = [_words(row) if flag else "" for row, flag in zip(evidence, flagged, strict=True)]
        return Verdict(weight, score, flagged, why)

    def _gather(self, updates: Updates) -> Floats:
        """Add this round's spreads to the evidence; return it, shape (n, features)."""
        spreads = np.column_stack([_spreads(*_class_excess(updates)), _spreads(*_plain(updates, "loss"))])
        for node, row in zip(updates.nodes, spreads.tolist(), strict=True):
            before = self._evidence.get(node, [0.0] * len(row))
            self._evidence[node] = [
                self.memory * b + (1 - self.memory) * now for b, now in zip(before, row, strict=True)
            ]
        return np.array([self._evidence[node] for node in updates.nodes])

    def state(self) -> dict[str, Any]:
        """Return the evidence by hospital."""
        return {"evidence": {str(node): row for node, row in self._evidence.items()}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back the evidence by hospital."""
        self._evidence = {int(node): list(row) for node, row in state["evidence"].items()}


def _plain(updates: Updates, name: str) -> tuple[Floats, float]:
    """Return a reported loss of each hospital, shape (n,), and its typical size."""
    losses = updates.reported(name)
    return losses, float(np.nanmedian(losses)) if np.isfinite(losses).any() else 0.0


def _class_excess(updates: Updates) -> tuple[Floats, float]:
    """Return how far each hospital's loss lies above its class-mates', shape (n,), and the typical loss.

    A class's typical loss is the median over images rather than over hospitals: a hospital that holds most of a rare
    class fits each of its images less than one that holds three and learns them by heart. A hospital's excess is the
    mean over its images. Where no losses by class are reported, the plain loss of the received model serves, then the
    training loss.
    """
    losses, counts = updates.reported("class-losses"), updates.reported("class-counts")
    if losses.ndim != 2 or losses.shape != counts.shape:
        plain = updates.reported("received-loss")
        return _plain(updates, "received-loss" if np.isfinite(plain).any() else "loss")
    held = np.isfinite(losses) & np.isfinite(counts) & (counts > 0)
    total, images = np.zeros(len(losses)), np.where(held, counts, 0.0).sum(axis=1)
    for k in np.flatnonzero(held.sum(axis=0) > 1):
        who = held[:, k]
        middle = _weighted_median(losses[who, k], counts[who, k])
        total[who] += counts[who, k] * (losses[who, k] - middle)
    excess = np.divide(total, images, out=np.full(len(losses), np.nan), where=images > 0)
    return excess, _plain(updates, "received-loss")[1]


def _weighted_median(values: Floats, weights: Floats) -> float:
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])


def _spreads(values: Floats, typical: float) -> Floats:
    """Return values in robust standard deviations above their median, within [0, CEILING].

    A hospital that does not say its loss while others do counts as the worst.
    """
    known = np.isfinite(values)
    if not known.any():
        return np.zeros(len(values))
    centred = values - np.median(values[known])
    spread = max(1.4826 * float(np.median(np.abs(centred[known]))), FLOOR * abs(typical), 1e-12)
    return np.where(known, np.clip(centred / spread, 0.0, CEILING), CEILING)


@functools.lru_cache(maxsize=8)
def _reference(hospitals: int, features: int) -> tuple[Any, Floats]:
    """Return a forest fitted on drawn honest hospitals, and their sorted scores.

    Honest hospitals differ for good, and one that is odd in one loss is likely to be odd in another: rows of a
    multivariate Student's t. Each drawn federation is standardised like a real one, so the small-sample error of
    median and spread is in the reference too.
    """
    from sklearn.ensemble import IsolationForest

    draw = generator(0, "isolation-forest reference", hospitals, features)
    federations = -(-REFERENCE // hospitals)
    scale = np.sqrt(draw.chisquare(TAIL, size=(federations, hospitals, 1)) / TAIL)
    losses = draw.standard_normal((federations, hospitals, features)) / scale
    rows = np.concatenate([np.column_stack([_spreads(column, 0.0) for column in one.T]) for one in losses])
    forest = IsolationForest(n_estimators=100, max_samples=256, random_state=0).fit(rows)
    return forest, np.sort(-forest.score_samples(rows))


def _judge(evidence: Floats, hospitals: int) -> tuple[Floats, Floats]:
    """Return the anomaly score of each row, and the share of the reference that scores at least as high."""
    forest, scores = _reference(hospitals, evidence.shape[1])
    score = -forest.score_samples(evidence)
    p = 1 - np.searchsorted(scores, score, side="left") / len(scores)
    return score, p


def _words(row: Floats) -> str:
    return "; ".join(f"{name} {value:.1f} spreads high" for name, value in zip(_FEATURES, row, strict=True))

"""Anomaly scores: an isolation forest compares hospitals with a drawn reference of benign ones."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrobust.scoring.class_losses import CEILING, robust_z_scores
from fedrobust.seeding import generator

__all__ = ["tail_probabilities"]

Floats = NDArray[np.float64]

#: Drawn hospitals in the reference, and the heaviness of their tails (degrees of freedom of Student's t).
REFERENCE = 20_000
TAIL = 10
#: The smallest standard deviation of the evidence between hospitals, in robust z-scores of a single round.
FLOOR = 1.0


def tail_probabilities(evidence: Floats) -> Floats:
    """Return the share of benign hospitals with at least this anomaly score, shape (n,), in (0, 1].

    Parameters
    ----------
    evidence : ndarray, shape (n, m)
        Kinds of evidence against each hospital, in robust z-scores of a single round. Each kind, and their
        sum, is divided by its own deviation between the hospitals, so the anomaly score adapts to their
        heterogeneity.
    """
    forest, scores = _reference(*evidence.shape)
    score = -forest.score_samples(_standing(evidence, FLOOR))
    p = 1 - np.searchsorted(scores, score, side="left") / len(scores)
    return np.asarray(np.maximum(p, 0.5 / len(scores)))


def _standing(evidence: Floats, floor: float) -> Floats:
    """Return the robust z-scores of each kind of evidence and of their sum, within [0, CEILING]."""
    columns = [*evidence.T, evidence.sum(axis=1)] if evidence.shape[1] > 1 else list(evidence.T)
    return np.clip(np.column_stack([robust_z_scores(column, floor) for column in columns]), 0.0, CEILING)


@functools.lru_cache(maxsize=24)
def _reference(hospitals: int, kinds: int) -> tuple[Any, Floats]:
    """Return a forest fitted on drawn benign hospitals, and their sorted scores.

    Benign hospitals differ permanently, and one that is atypical in one way is likely to be atypical in
    another: rows of a multivariate Student's t. Each drawn federation is standardised like a real one, so the
    reference has the small-sample error of the median and the deviation too.
    """
    from sklearn.ensemble import IsolationForest

    draw = generator(0, "isolation-forest reference", hospitals, kinds)
    federations = -(-REFERENCE // hospitals)
    scale = np.sqrt(draw.chisquare(TAIL, size=(federations, hospitals, 1)) / TAIL)
    drawn = draw.standard_normal((federations, hospitals, kinds)) / scale
    points = np.concatenate([_standing(one, 0.0) for one in drawn])
    forest = IsolationForest(n_estimators=100, max_samples=256, random_state=0).fit(points)
    return forest, np.sort(-forest.score_samples(points))

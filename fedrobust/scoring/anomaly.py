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

#: Drawn hospitals in the reference: enough for a tail probability of .001. A tenth of them fits each tree, as
#: a tree cannot tell apart what lies beyond the last point of its sample.
REFERENCE = 20_000
#: Degrees of freedom of the reference's Student's t: benign hospitals have heavier tails than a normal.
TAIL = 10


def tail_probabilities(evidence: Floats) -> Floats:
    """Return the share of benign hospitals with at least this anomaly score, shape (n,), in (0, 1].

    Parameters
    ----------
    evidence : ndarray, shape (n, m)
        Kinds of evidence against each hospital, in robust z-scores; below 0 there is none.
    """
    forest, scores = _reference(*evidence.shape)
    score = -forest.score_samples(np.clip(evidence, 0.0, CEILING))
    p = 1 - np.searchsorted(scores, score, side="left") / len(scores)
    return np.asarray(np.maximum(p, 0.5 / len(scores)))


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
    scored = [np.column_stack([robust_z_scores(column, 0.0) for column in one.T]) for one in drawn]
    points = np.clip(np.concatenate(scored), 0.0, CEILING)
    forest = IsolationForest(n_estimators=100, max_samples=REFERENCE // 10, random_state=0).fit(points)
    return forest, np.sort(-forest.score_samples(points))

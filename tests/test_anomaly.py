"""The forest's reference: its definition, the rate that it keeps, and that more evidence never helps."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedrobust.scoring.anomaly import REFERENCE, TAIL, _reference, tail_probabilities
from fedrobust.scoring.class_losses import CEILING

SIZES = [4, 5, 10, 20]


def plain_standing(evidence: np.ndarray) -> np.ndarray:
    """Return each column as robust z-scores, none below 0."""
    n = len(evidence)

    def middle(values: list[float]) -> float:
        ordered = sorted(values)
        return (ordered[(n - 1) // 2] + ordered[n // 2]) / 2

    stood = []
    for column in evidence.T.tolist():
        typical = middle(column)
        deviation = 1.4826 * middle([abs(v - typical) for v in column])
        stood.append([min(max((v - typical) / deviation, 0.0), CEILING) for v in column])
    return np.array(stood).T


def fresh(n: int, count: int) -> np.ndarray:
    """Draw honest federations of the reference's kind, in another way, shape (count, n, 2)."""
    draw = np.random.default_rng(n)
    made = np.empty((count, n, 2))
    for federation in made:
        for hospital in range(n):
            # Student's t: a normal over the root of a mean of squared normals, the same for both kinds.
            heavy = math.sqrt(np.square(draw.standard_normal(TAIL)).mean())
            federation[hospital] = draw.standard_normal(2) / heavy
    return made


def shares(n: int, standing: np.ndarray) -> np.ndarray:
    """Return the share of the reference with at least each row's score, in loops over distinct scores."""
    forest, scores = _reference(n, 2)
    distinct, place = np.unique(-forest.score_samples(standing), return_inverse=True)
    return np.array([(scores >= score).mean() for score in distinct])[place]


@pytest.mark.parametrize("n", SIZES)
def test_reference_keeps_the_stated_rate(n: int) -> None:
    _, scores = _reference(n, 2)
    assert len(scores) >= REFERENCE and (np.diff(scores) >= 0).all()
    standing = np.concatenate([plain_standing(one) for one in fresh(n, 12_000 // n)])
    p = shares(n, standing)
    for rate in (0.005, 0.01, 0.05, 0.1, 0.3):
        # Hospitals of one federation hang together, so the error is larger than of as many draws.
        assert (p < rate).mean() == pytest.approx(rate, abs=5 * math.sqrt(rate / len(p))), rate


@pytest.mark.parametrize("n", SIZES)
def test_tail_probabilities_are_shares_of_the_reference(n: int) -> None:
    _, scores = _reference(n, 2)
    for federation in 3 * fresh(n, 3):
        wanted = np.maximum(shares(n, np.clip(federation, 0, CEILING)), 0.5 / len(scores))
        # A score next to one of the reference's may fall on either side of it.
        np.testing.assert_allclose(tail_probabilities(federation), wanted, atol=2e-3)


@pytest.mark.parametrize("n", SIZES)
def test_tail_probabilities_never_rise_with_evidence(n: int) -> None:
    for ray in ([1, 0], [0, 1], [1, 1], [1, 0.3]):
        evidence = np.zeros((n, 2))
        found = []
        for much in np.linspace(0, CEILING, 21):
            evidence[0] = much * np.array(ray)
            found.append(tail_probabilities(evidence)[0])
        # A forest's score has steps back where there is no anomaly, and small ones elsewhere.
        back = np.array(found) - np.minimum.accumulate(found)
        assert back.max() < 0.1 and back[np.minimum.accumulate(found) < 0.05].max() < 0.02
        assert found[0] > 0.05 and min(found) < 0.02


def test_tail_probabilities_of_strong_evidence_are_small() -> None:
    for kind in ([8.0, 0.0], [0.0, 8.0], [8.0, 8.0]):
        evidence = np.random.default_rng(2).normal(0, 0.5, (10, 2))
        evidence[1] = kind
        p = tail_probabilities(evidence)
        assert p.argmin() == 1 and p[1] < 0.005 and np.delete(p, 1).min() > 0.01


def test_tail_probabilities_of_low_evidence_are_large() -> None:
    assert tail_probabilities(np.zeros((6, 2))).min() > 0.2
    evidence = np.random.default_rng(0).normal(0, 1, (6, 2))
    evidence[2] = -100
    assert tail_probabilities(evidence)[2] > 0.2


def test_tail_probabilities_ignore_order_and_other_hospitals() -> None:
    evidence = np.random.default_rng(3).standard_t(3, (8, 2))
    kept, found = evidence.copy(), tail_probabilities(evidence)
    np.testing.assert_array_equal(tail_probabilities(evidence[::-1]), found[::-1])
    np.testing.assert_array_equal(evidence, kept)
    assert ((found > 0) & (found <= 1)).all()
    # Evidence is standardised already: a group with much of it does not excuse a hospital, nor accuse it.
    evidence[4:] = 9
    np.testing.assert_array_equal(tail_probabilities(evidence)[:4], found[:4])

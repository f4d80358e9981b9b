"""The forest's reference: its definition, the rate that it keeps, and that more evidence never helps."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedrobust.scoring.anomaly import FLOOR, REFERENCE, TAIL, _reference, _standing, tail_probabilities
from fedrobust.scoring.class_losses import CEILING

SIZES = [4, 5, 10, 20]


def plain_standing(evidence: np.ndarray, floor: float) -> np.ndarray:
    """Return each column and their sum as robust z-scores, none below 0."""
    n = len(evidence)

    def middle(values: list[float]) -> float:
        ordered = sorted(values)
        return (ordered[(n - 1) // 2] + ordered[n // 2]) / 2

    columns = [
        *([float(v) for v in column] for column in evidence.T),
        [math.fsum(row) for row in evidence.tolist()],
    ]
    stood = []
    for column in columns:
        typical = middle(column)
        deviation = max(1.4826 * middle([abs(v - typical) for v in column]), floor)
        stood.append([min(max((v - typical) / deviation, 0.0), CEILING) for v in column])
    return np.array(stood).T


@pytest.mark.parametrize("n", [4, 7, 10])
@pytest.mark.parametrize("floor", [0.0, FLOOR])
def test_standing_random_evidence_follows_the_definition(n: int, floor: float) -> None:
    evidence = np.random.default_rng(n).standard_t(2, (n, 2))
    np.testing.assert_allclose(_standing(evidence, floor), plain_standing(evidence, floor), atol=1e-12)
    # One kind is its own sum.
    assert _standing(evidence[:, :1], floor).shape == (n, 1)


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


@pytest.mark.parametrize("n", SIZES)
def test_reference_keeps_the_stated_rate(n: int) -> None:
    forest, scores = _reference(n, 2)
    assert len(scores) >= REFERENCE and (np.diff(scores) >= 0).all()
    federations = fresh(n, 12_000 // n)
    found = -forest.score_samples(np.concatenate([plain_standing(one, 0.0) for one in federations]))
    p = np.array([(scores >= score).mean() for score in np.unique(found)])[
        np.unique(found, return_inverse=True)[1]
    ]
    for rate in (0.005, 0.01, 0.05, 0.1, 0.3):
        # Hospitals of one federation hang together, so the error is larger than of as many draws.
        assert (p < rate).mean() == pytest.approx(rate, abs=5 * math.sqrt(rate / len(p))), rate


@pytest.mark.parametrize("n", SIZES)
def test_tail_probabilities_are_shares_of_the_reference(n: int) -> None:
    forest, scores = _reference(n, 2)
    for federation in 50 * fresh(n, 3):
        score = -forest.score_samples(plain_standing(federation, FLOOR))
        wanted = [max((scores >= s).mean(), 0.5 / len(scores)) for s in score]
        # A score next to one of the reference's may fall on either side of it.
        np.testing.assert_allclose(tail_probabilities(federation), wanted, atol=2e-3)


@pytest.mark.parametrize("n", SIZES)
def test_tail_probabilities_never_rise_with_evidence(n: int) -> None:
    for ray in ([1, 0], [0, 1], [1, 1], [1, 0.3]):
        evidence = np.random.default_rng(1).normal(0, 1, (n, 2))
        found = []
        for much in np.linspace(0, 40, 21):
            evidence[0] = much * np.array(ray)
            found.append(tail_probabilities(evidence)[0])
        # A forest's score has small steps back where there is no anomaly.
        assert np.max(np.array(found) - np.minimum.accumulate(found)) < 0.02
        assert found[0] > 0.05 and found[-1] < 0.005


@pytest.mark.parametrize("n", SIZES)
def test_tail_probabilities_of_strong_evidence_are_small(n: int) -> None:
    for kind in ([100.0, 0.0], [0.0, 100.0], [100.0, 100.0]):
        evidence = np.random.default_rng(2).normal(0, 0.5, (n, 2))
        evidence[1] = kind
        p = tail_probabilities(evidence)
        assert p.argmin() == 1 and p[1] < 0.002 and np.delete(p, 1).min() > 0.01


def test_tail_probabilities_of_low_evidence_are_large() -> None:
    assert tail_probabilities(np.zeros((6, 2))).min() > 0.2
    evidence = np.random.default_rng(0).normal(0, 1, (6, 2))
    evidence[2] = -100
    assert tail_probabilities(evidence)[2] > 0.2
    # Differences below a single round's deviation do not count.
    assert tail_probabilities(np.random.default_rng(0).normal(0, 0.2, (10, 2))).min() > 0.05


def test_tail_probabilities_ignore_order_and_leave_inputs_unchanged() -> None:
    evidence = np.random.default_rng(3).standard_t(3, (8, 2))
    kept, found = evidence.copy(), tail_probabilities(evidence)
    np.testing.assert_array_equal(tail_probabilities(evidence[::-1]), found[::-1])
    np.testing.assert_array_equal(evidence, kept)
    assert ((found > 0) & (found <= 1)).all()


def test_tail_probabilities_are_larger_among_heterogeneous_hospitals() -> None:
    evidence = np.random.default_rng(4).normal(0, 1, (10, 2))
    evidence[3] = 6
    alike = tail_probabilities(evidence)[3]
    evidence[[0, 1, 2, 4, 5, 6, 7, 8, 9]] *= 3
    assert tail_probabilities(evidence)[3] > 3 * alike

"""Ties between hospitals: each function against a plain definition, and what must not change them."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from helpers import restored

from fedrobust.scoring.ties import (
    COLLUDING,
    EXPLAINED,
    SMALL_TIE,
    TieMemory,
    most_tied,
    residual_cosines,
    shared_help,
)

SEEDS = range(5)


def vectors(seed: int, n: int = 7, d: int = 30) -> np.ndarray:
    """Return vectors with a common part, of different lengths."""
    draw = np.random.default_rng(seed)
    return (draw.standard_normal(d) + draw.standard_normal((n, d))) * draw.lognormal(0, 0.5, (n, 1))


def plain_cosines(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Subtract from each vector its projection on the others' weighted sum; return the rests' cosines."""
    n = len(x)
    rests = []
    for i in range(n):
        others = sum(weight[j] * x[j] for j in range(n) if j != i)
        rests.append(x[i] - (x[i] @ others) / (others @ others) * others)
    found = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if i != j:
                found[i, j] = rests[i] @ rests[j] / np.linalg.norm(rests[i]) / np.linalg.norm(rests[j])
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_residual_cosines_random_updates_follow_the_definition(seed: int) -> None:
    x = vectors(seed)
    weight = np.random.default_rng(seed).random(len(x))
    weight[1] = 0
    gram = x @ x.T
    kept = gram.copy(), weight.copy()
    found = residual_cosines(gram, weight)
    np.testing.assert_allclose(found, plain_cosines(x, weight), atol=1e-12)
    assert not np.diagonal(found).any()
    np.testing.assert_array_equal(gram, kept[0])
    np.testing.assert_array_equal(weight, kept[1])


@pytest.mark.parametrize("seed", SEEDS)
def test_residual_cosines_ignore_lengths_unit_and_order(seed: int) -> None:
    x = vectors(seed)
    draw = np.random.default_rng(seed)
    weight, scale = draw.random(len(x)) + 0.1, draw.lognormal(0, 2, len(x))
    found = residual_cosines(x @ x.T, weight)
    # A longer update with a weight that is as much lower has the same place in every sum.
    longer = scale[:, None] * x
    np.testing.assert_allclose(residual_cosines(longer @ longer.T, weight / scale), found, atol=1e-10)
    np.testing.assert_allclose(residual_cosines(9 * x @ x.T, 4 * weight), found, atol=1e-12)
    order = draw.permutation(len(x))
    y = x[order]
    np.testing.assert_allclose(
        residual_cosines(y @ y.T, weight[order]), found[np.ix_(order, order)], atol=1e-12
    )


@pytest.mark.parametrize("n", [4, 10, 20])
def test_residual_cosines_of_independent_updates_are_as_expected(n: int) -> None:
    draw = np.random.default_rng(n)
    x = 30 * draw.standard_normal(20_000) + draw.standard_normal((n, 20_000))
    found = residual_cosines(x @ x.T, np.ones(n))[np.triu_indices(n, 1)]
    assert found.mean() == pytest.approx(-1 / (n - 1), abs=0.002)
    assert np.abs(found + 1 / (n - 1)).max() < 0.04


def test_residual_cosines_find_a_common_direction_that_the_others_lack() -> None:
    draw = np.random.default_rng(0)
    x = 3 * draw.standard_normal(5000) + draw.standard_normal((10, 5000))
    x[[2, 5]] += draw.standard_normal(5000)
    found = residual_cosines(x @ x.T, np.ones(10))
    assert found[2, 5] > 0.3 and np.sort(found[np.triu_indices(10, 1)])[-2] < 0.1


def test_residual_cosines_without_a_direction_are_0() -> None:
    x = vectors(0)
    x[3] = 0
    x[5] = 2 * (np.delete(x, 5, axis=0).sum(axis=0))
    found = residual_cosines(x @ x.T, np.ones(7))
    assert not found[[3, 5]].any() and not found[:, [3, 5]].any() and found[0, 1]
    assert not residual_cosines(np.zeros((4, 4)), np.ones(4)).any()
    # Nobody else has weight: nothing is subtracted.
    alone = residual_cosines(np.eye(3) + 0.5, np.zeros(3))
    np.testing.assert_allclose(alone, (1 - np.eye(3)) / 3)


@pytest.mark.parametrize("seed", SEEDS)
def test_shared_help_random_cosines_follow_the_definition(seed: int) -> None:
    classes = np.random.default_rng(seed).standard_normal((6, 3))
    typical = [statistics.median(column) for column in classes.T.tolist()]
    found = shared_help(classes)
    for i in range(6):
        for j in range(6):
            both = [min(typical[k] - classes[i, k], typical[k] - classes[j, k]) for k in range(3)]
            assert found[i, j] == pytest.approx(max(0.0, *both), abs=1e-15)


def test_shared_help_counts_only_what_both_do() -> None:
    classes = np.zeros((5, 3))
    classes[0, 1] = classes[1, 1] = -0.4
    classes[2, 2], classes[0, 2] = -0.9, 0.5
    found = shared_help(classes)
    assert found[0, 1] == 0.4 and found[0, 2] == found[1, 2] == found[3, 4] == 0
    assert not shared_help(np.zeros((4, 1))).any()


class PlainMemory:
    """`TieMemory` pair by pair."""

    def __init__(self, memory: float) -> None:
        self.memory = memory
        self.pairs: dict[tuple[int, int], tuple[float, float, float]] = {}

    def add(self, nodes: list[int], cosines: np.ndarray, shared: np.ndarray) -> dict[tuple[int, int], float]:
        places = [(i, j) for i in range(len(nodes)) for j in range(i + 1, len(nodes))]
        usual = statistics.median(float(cosines[place]) for place in places)
        deviations = []
        for i, j in places:
            total, rounds, _ = self.pairs.get((nodes[i], nodes[j]), (0.0, 0.0, 0.0))
            deviations.append(abs(cosines[i, j] - (total / rounds if rounds else usual)))
        noise = 1.4826 * statistics.median(deviations)
        ties = {}
        for i, j in places:
            total, rounds, squares = self.pairs.get((nodes[i], nodes[j]), (0.0, 0.0, 0.0))
            total, rounds = self.memory * total + cosines[i, j], self.memory * rounds + 1
            squares = self.memory**2 * squares + noise**2
            self.pairs[nodes[i], nodes[j]] = total, rounds, squares
            ties[nodes[i], nodes[j]] = total / (rounds + 1), EXPLAINED * shared[i, j], squares / rounds**2
        benign = 1 - COLLUDING**2
        quantile = float(np.quantile([tie for tie, _, _ in ties.values()], benign))
        between = max(quantile / statistics.NormalDist().inv_cdf(benign), SMALL_TIE)
        return {
            pair: (tie - explained) / math.sqrt(between**2 + error)
            for pair, (tie, explained, error) in ties.items()
        }


def symmetric(draw: np.random.Generator, n: int, scale: float) -> np.ndarray:
    """Draw a symmetric matrix with zeros on the diagonal."""
    drawn = np.triu(draw.normal(0, scale, (n, n)), 1)
    return drawn + drawn.T


@pytest.mark.parametrize("scale", [0.01, 0.2])
@pytest.mark.parametrize("memory", [0.0, 0.9])
def test_tie_memory_follows_the_definition_over_missed_rounds(memory: float, scale: float) -> None:
    draw = np.random.default_rng(3)
    kept, plain = TieMemory(memory), PlainMemory(memory)
    for nodes in ([0, 1, 2, 3, 4], [0, 1, 3, 4, 7], [1, 2, 3, 4], [0, 1, 2, 3, 4, 7]):
        n = len(nodes)
        cosines, shared = symmetric(draw, n, scale), np.abs(symmetric(draw, n, scale / 3))
        found, wanted = kept.add(nodes, cosines, shared), plain.add(nodes, cosines, shared)
        for (one, other), score in wanted.items():
            i, j = nodes.index(one), nodes.index(other)
            assert found[i, j] == pytest.approx(score, rel=1e-9) == pytest.approx(found[j, i])
        assert not np.diagonal(found).any()


def test_tie_memory_restored_continues_with_the_same_bits() -> None:
    draw = np.random.default_rng(0)
    rounds = [(symmetric(draw, 5, 0.1), np.zeros((5, 5))) for _ in range(4)]
    unbroken, first, second = TieMemory(0.9), TieMemory(0.9), TieMemory(0.9)
    for cosines, shared in rounds[:3]:
        unbroken.add(range(5), cosines, shared)
        first.add(range(5), cosines, shared)
    second.load_state(restored(first.state()))
    np.testing.assert_array_equal(second.add(range(5), *rounds[3]), unbroken.add(range(5), *rounds[3]))


def test_tie_memory_persistent_tie_grows_and_a_single_round_is_forgotten() -> None:
    draw = np.random.default_rng(1)
    persistent, once = TieMemory(0.9), TieMemory(0.9)
    scores = []
    for number in range(20):
        cosines = symmetric(draw, 10, 0.1)
        tied = cosines.copy()
        tied[2, 5] = tied[5, 2] = 0.3
        scores.append(persistent.add(range(10), tied, np.zeros((10, 10)))[2, 5])
        other = once.add(range(10), tied if number == 0 else cosines, np.zeros((10, 10)))
    assert scores[-1] > 1.5 * scores[0] and scores[-1] > 4
    assert np.abs(other[2, 5]) < 3
    # Help for the same class explains it.
    explained = np.zeros((10, 10))
    explained[2, 5] = explained[5, 2] = 0.3 / EXPLAINED
    assert persistent.add(range(10), tied, explained)[2, 5] < 1


@pytest.mark.parametrize("n", [10, 20])
def test_tie_memory_benign_pairs_rarely_have_a_significant_tie(n: int) -> None:
    """Of the strongest of each hospital's ties, with a correction for its partners, few are below .5 %."""
    draw, flags = np.random.default_rng(n), []
    for _ in range(10):
        memory, permanent = TieMemory(0.9), symmetric(draw, n, 0.03)
        for _ in range(10):
            cosines = symmetric(draw, n, 0.1) + permanent - 1 / (n - 1)
            scores = memory.add(range(n), cosines, np.zeros((n, n)))
            tail = [0.5 * math.erfc(s / math.sqrt(2)) * (n - 1) for s in scores.max(axis=1)]
            flags.append(np.array(tail) < 0.005)
    assert np.mean(flags) <= 0.01


@pytest.mark.parametrize("n", [4, 7, 9, 10, 30])
def test_most_tied_is_at_most_a_third_rounded_up(n: int) -> None:
    scores = np.abs(symmetric(np.random.default_rng(n), n, 1.0))
    chosen = most_tied(scores)
    assert chosen.sum() == math.ceil(n / 3)
    total = scores.sum(axis=1)
    assert total[chosen].min() >= total[~chosen].max()
    order = np.random.default_rng(0).permutation(n)
    np.testing.assert_array_equal(most_tied(scores[np.ix_(order, order)]), chosen[order])


def test_most_tied_chooses_the_imitator_before_the_imitated() -> None:
    """Two attackers imitate four hospitals each: every one of these is tied once, an attacker four times."""
    scores = np.full((10, 10), -0.5)
    for attacker, imitated in ((0, (1, 2, 3, 4)), (5, (6, 7, 8, 9))):
        scores[attacker, list(imitated)] = scores[list(imitated), attacker] = 6.0
    chosen = most_tied(scores)
    assert chosen[0] and chosen[5]

"""What an update's shape says, each function against a definition on the vectors themselves."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from fedrobust.scoring.update_geometry import cosine_to_others, excess_length, lack_of_direction

SEEDS = range(5)


def vectors(seed: int, n: int = 7, d: int = 30) -> np.ndarray:
    """Return vectors with a common part, the last of them nearly noise."""
    draw = np.random.default_rng(seed)
    made = draw.standard_normal(d) + 0.5 * draw.standard_normal((n, d))
    made[-1] = draw.standard_normal(d)
    return made


def cosine(x: np.ndarray, y: np.ndarray) -> float:
    """Return the cosine; 0 beside a zero vector."""
    length = math.sqrt(math.fsum(x * x) * math.fsum(y * y))
    return math.fsum(x * y) / length if length else 0.0


@pytest.mark.parametrize("seed", SEEDS)
def test_lack_of_direction_random_updates_follow_the_definition(seed: int) -> None:
    deltas = vectors(seed)
    n, d = deltas.shape
    strength = [
        math.sqrt(d) * statistics.median(abs(cosine(deltas[i], deltas[j])) for j in range(n) if j != i)
        for i in range(n)
    ]
    typical = sorted(strength)[n // 2]
    wanted = [
        10 * min(max(math.log(typical / s) / math.log(20), 0), 1) * min(max((4 - s) / 2, 0), 1)
        for s in strength
    ]
    np.testing.assert_allclose(lack_of_direction(deltas @ deltas.T, d, 10.0), wanted, atol=1e-9)
    assert max(wanted) == wanted[-1] > 0


@pytest.mark.parametrize("seed", SEEDS)
def test_lack_of_direction_is_high_for_noise_not_for_a_flipped_update(seed: int) -> None:
    deltas = vectors(seed, d=4000)
    deltas[0] *= -1
    found = lack_of_direction(deltas @ deltas.T, 4000, 10.0)
    assert not found[:-1].any() and found[-1] > 5
    # Neither lengths nor signs matter.
    scale = np.random.default_rng(seed).normal(0, 5, (7, 1))
    scaled = scale * deltas
    np.testing.assert_allclose(lack_of_direction(scaled @ scaled.T, 4000, 10.0), found, atol=1e-9)


def test_lack_of_direction_is_high_for_shared_noise() -> None:
    deltas = vectors(0, n=9, d=4000)
    deltas[0] = deltas[-1]
    found = lack_of_direction(deltas @ deltas.T, 4000, 10.0)
    assert not found[1:-1].any() and found[0] == found[-1] > 5


def test_lack_of_direction_edge_cases() -> None:
    assert not lack_of_direction(np.zeros((5, 5)), 9, 10.0).any()
    # Noise among noise lacks no direction, and an update of length 0 has no direction at all.
    noise = np.random.default_rng(0).standard_normal((6, 500))
    assert lack_of_direction(noise @ noise.T, 500, 10.0).max() < 3
    deltas = vectors(0, d=500)
    deltas[2] = 0
    assert lack_of_direction(deltas @ deltas.T, 500, 10.0)[2] == 10


@pytest.mark.parametrize("seed", SEEDS)
def test_cosine_to_others_random_updates_follow_the_definition(seed: int) -> None:
    deltas = vectors(seed)
    weight = np.random.default_rng(seed).random(len(deltas))
    weight[1] = 0
    wanted = [
        cosine(deltas[i], sum(weight[j] * deltas[j] for j in range(len(deltas)) if j != i))
        for i in range(len(deltas))
    ]
    gram = deltas @ deltas.T
    kept = gram.copy(), weight.copy()
    found = cosine_to_others(gram, weight)
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    np.testing.assert_allclose(cosine_to_others(9 * gram, 4 * weight), found, atol=1e-12)
    order = np.random.default_rng(seed).permutation(len(deltas))
    np.testing.assert_allclose(
        cosine_to_others(gram[np.ix_(order, order)], weight[order]), found[order], atol=1e-12
    )
    np.testing.assert_array_equal(gram, kept[0])
    np.testing.assert_array_equal(weight, kept[1])


def test_cosine_to_others_without_others_or_length_is_0() -> None:
    deltas = vectors(0)
    gram = deltas @ deltas.T
    alone = np.eye(len(deltas))[0]
    assert cosine_to_others(gram, alone)[0] == 0 and cosine_to_others(gram, alone)[1] != 0
    deltas[3] = 0
    assert cosine_to_others(deltas @ deltas.T, np.ones(len(deltas)))[3] == 0
    assert not cosine_to_others(np.zeros((4, 4)), np.ones(4)).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_excess_length_random_updates_follow_the_definition(seed: int) -> None:
    draw = np.random.default_rng(seed)
    images = draw.integers(1, 300, 9).astype(float)
    norms = images**0.4 * draw.lognormal(0, 0.1, 9)
    images[0] = 0.1
    least = statistics.median(images.tolist()) / 20
    sizes = [max(size, least, 1.0) for size in images.tolist()]
    slopes = sorted(
        (math.log(norms[j]) - math.log(norms[i])) / (math.log(sizes[j]) - math.log(sizes[i]))
        for i in range(9)
        for j in range(i + 1, 9)
        if sizes[i] != sizes[j]
    )
    m = len(slopes)
    slope = min(max((slopes[(m - 1) // 2] + slopes[m // 2]) / 2, 0), 1)
    assert slope == pytest.approx(0.4, abs=0.2)
    wanted = [math.log(length) - slope * math.log(size) for length, size in zip(norms, sizes, strict=True)]
    np.testing.assert_allclose(excess_length(norms, images), wanted, atol=1e-12)


def test_excess_length_is_what_size_does_not_explain() -> None:
    images = np.array([10.0, 20, 40, 80, 160, 320, 640])
    norms = images**0.5
    assert np.ptp(excess_length(norms, images)) < 1e-12
    norms[2] *= 5
    found = excess_length(norms, images)
    assert found[2] - np.median(found) == pytest.approx(math.log(5))
    # In another unit all move alike.
    assert np.ptp(excess_length(1000 * norms, images) - found) < 1e-9


def test_excess_length_edge_cases() -> None:
    norms = np.array([1.0, 2.0, 0.0, 4.0])
    np.testing.assert_allclose(excess_length(norms, np.full(4, 7.0))[[0, 1, 3]], np.log([1.0, 2.0, 4.0]))
    assert np.isfinite(excess_length(norms, np.array([0.0, 1e12, 3, 5]))).all()
    # Updates that shrink with size, or grow faster than it, are no rule.
    sizes = np.array([1.0, 10, 100, 1000])
    np.testing.assert_allclose(excess_length(1 / sizes, sizes), -np.log(sizes))
    counted = np.maximum(sizes, 55 / 20)
    np.testing.assert_allclose(excess_length(sizes**2, sizes), 2 * np.log(sizes) - np.log(counted))
    # One hospital's number alone, among equal ones, explains nothing.
    false_number = np.array([1e5, 9, 9, 9, 9])
    long = np.array([10.0, 1, 1, 1, 1])
    np.testing.assert_allclose(excess_length(long, false_number), np.log(long))

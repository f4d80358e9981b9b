"""Hospitals compared class by class, each function against a definition in loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from helpers import make_updates

from fedrobust.scoring.class_losses import (
    CEILING,
    FEW,
    LARGEST,
    class_counts,
    class_excess,
    images_mean,
    plausible_num_examples,
    reported_excess,
    robust_z_scores,
)

SEEDS = range(5)


def table(seed: int, n: int = 9, k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Return values with some NaN and counts with some 0; every class is held by two hospitals at least."""
    draw = np.random.default_rng(seed)
    values, counts = draw.gamma(2, 1, (n, k)), draw.integers(0, 30, (n, k)).astype(float)
    counts[:2] += 1
    values[draw.random((n, k)) < 0.1] = np.nan
    return values, counts


def plain_median(pairs: list[tuple[float, float]]) -> float:
    """Return the least value that at least half of the weight does not exceed."""
    total_weight, reached = sum(weight for _, weight in pairs), 0.0
    for value, weight in sorted(pairs):
        reached += weight
        if reached >= total_weight / 2:
            return value
    raise AssertionError


def plain_excess(values: np.ndarray, counts: np.ndarray) -> list[float]:
    """Return the excess as its docstring has it."""
    n, classes = values.shape
    held = [[math.isfinite(values[i, k]) and counts[i, k] > 0 for k in range(classes)] for i in range(n)]
    found = []
    for i in range(n):
        total, images = 0.0, 0.0
        for k in range(classes):
            if not held[i][k]:
                continue
            mates = [(float(values[j, k]), float(counts[j, k])) for j in range(n) if held[j][k]]
            above = float(values[i, k]) - plain_median(mates) if len(mates) > 1 else 0.0
            total, images = total + counts[i, k] * above, images + counts[i, k]
        found.append(total / images * math.sqrt(images / (images + FEW)) if images else math.nan)
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_class_excess_random_values_follow_the_definition(seed: int) -> None:
    values, counts = table(seed)
    np.testing.assert_allclose(class_excess(values, counts), plain_excess(values, counts), atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_class_excess_ignores_class_level_and_order(seed: int) -> None:
    values, counts = table(seed)
    given = values.copy(), counts.copy()
    excess = class_excess(values, counts)
    order = np.random.default_rng(seed).permutation(len(values))
    np.testing.assert_allclose(class_excess(values[order], counts[order]), excess[order], atol=1e-12)
    # A class that is harder for all gives no excess; it has the unit of the loss.
    level = np.array([5.0, -1.0, 0.0, 100.0])
    np.testing.assert_allclose(class_excess(values + level, counts), excess, atol=1e-10)
    np.testing.assert_allclose(class_excess(3 * values, counts), 3 * excess, atol=1e-12)
    np.testing.assert_array_equal(values, given[0])
    np.testing.assert_array_equal(counts, given[1])


def test_class_excess_unshared_class_is_0_and_no_value_is_nan() -> None:
    values = np.array([[1.0, np.nan], [2.0, 50.0], [np.nan, np.nan], [1.0, np.nan]])
    counts = np.array([[5.0, 0], [0, 8], [0, 0], [5, 0]])
    np.testing.assert_array_equal(class_excess(values, counts), [0.0, 0.0, np.nan, 0.0])
    # Images of which a hospital gives no loss do not count.
    assert np.isnan(class_excess(np.array([[np.nan], [1.0], [2.0]]), np.full((3, 1), 9.0))[0])


def test_class_excess_of_few_images_is_reduced() -> None:
    values = np.array([[1.0]] * 5 + [[3.0]])
    # A hospital that reports hardly any images counts as one with a single image.
    reported = (0.1, 1.0, FEW, 3 * FEW, 190.0)
    found = [class_excess(values, np.array([[50.0]] * 5 + [[images]]))[-1] for images in reported]
    wanted = [2 * math.sqrt(m / (m + FEW)) for m in (1.0, 1.0, FEW, 3 * FEW, 190.0)]
    np.testing.assert_allclose(found, wanted)


def test_class_excess_few_images_do_not_outvote_many() -> None:
    values = np.array([[0.1]] * 8 + [[2.0]])
    counts = np.array([[3.0]] * 8 + [[100.0]])
    assert class_excess(values, counts)[-1] == 0
    assert class_excess(values, np.full((9, 1), 3.0))[-1] > 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_robust_z_scores_random_values_follow_the_definition(seed: int) -> None:
    draw = np.random.default_rng(seed)
    values = draw.standard_t(2, 11)
    values[3] = np.nan
    known = sorted(v for v in values.tolist() if not math.isnan(v))
    middle = (known[4] + known[5]) / 2
    away = sorted(abs(v - middle) for v in known)
    for floor in (0.0, 0.5, 50.0):
        deviation = max(1.4826 * (away[4] + away[5]) / 2, floor)
        wanted = [
            CEILING if math.isnan(v) else min(max((v - middle) / deviation, -CEILING), CEILING)
            for v in values.tolist()
        ]
        np.testing.assert_allclose(robust_z_scores(values, floor), wanted, rtol=1e-12)


def test_robust_z_scores_ignore_unit_level_and_order() -> None:
    values = np.random.default_rng(0).standard_normal(8)
    kept, found = values.copy(), robust_z_scores(values, 0.0)
    np.testing.assert_allclose(robust_z_scores(1e3 * values + 7, 0.0), found, atol=1e-10)
    np.testing.assert_array_equal(robust_z_scores(values[::-1], 0.0), found[::-1])
    np.testing.assert_array_equal(values, kept)


def test_robust_z_scores_edge_cases() -> None:
    assert not robust_z_scores(np.full(4, np.nan), 1.0).any()
    # Silence and infinity while others speak count as the worst.
    assert robust_z_scores(np.array([1.0, 2, 3, np.nan, np.inf, -np.inf]), 0.0)[3:].tolist() == [CEILING] * 3
    # Equal values have deviation 0; the floor keeps rounding errors from counting.
    assert not robust_z_scores(np.ones(5), 0.0).any()
    assert robust_z_scores(np.array([1.0, 1.0, 1.0, 1.0 + 1e-9]), 1.0).max() < 1e-6


@pytest.mark.parametrize("seed", SEEDS)
def test_images_mean_random_values_follow_the_definition(seed: int) -> None:
    values, counts = table(seed)
    counts[4] = 0
    wanted = []
    for row, held in zip(values.tolist(), counts.tolist(), strict=True):
        pairs = [(v, c) for v, c in zip(row, held, strict=True) if c > 0 and not math.isnan(v)]
        images = sum(c for _, c in pairs)
        wanted.append(sum(v * c for v, c in pairs) / images if images else math.nan)
    np.testing.assert_allclose(images_mean(values, counts), wanted, rtol=1e-12)
    assert np.isnan(wanted[4])


def test_class_counts_invalid_reports_count_as_none() -> None:
    reports = [(1.0, 2.0), (-3.0, float("nan")), (float("inf"), 4.0), (1.0, 2.0, 3.0)]
    updates = make_updates(4, values=[{"class-counts": counts} for counts in reports])
    np.testing.assert_array_equal(class_counts(updates), [[1, 2], [0, 0], [0, 4], [0, 0]])
    assert class_counts(make_updates(4, values=[{"loss": 1.0}] * 4)) is None
    assert class_counts(make_updates(4, values=[{"class-counts": 7.0}] * 4)) is None


def test_reported_numbers_of_images_are_bounded() -> None:
    reports: list[dict[str, float | tuple[float, ...]]] = [{"class-counts": (20.0, 0.0, 5.0)}] * 4
    counts = class_counts(make_updates(5, values=[*reports, {"class-counts": (1e9, 1e9, 5.0)}]))
    assert counts is not None
    # A class that one hospital alone reports has its number as the median.
    np.testing.assert_array_equal(counts[-1], [LARGEST * 20, 1e9, 5])
    np.testing.assert_array_equal(counts[:4], [[20, 0, 5]] * 4)
    found = plausible_num_examples(make_updates(5, num_examples=[100, 50, 120, 100, 10**9]))
    np.testing.assert_array_equal(found, [100, 50, 120, 100, LARGEST * 100])
    invalid: list[Any] = [float("nan"), float("inf"), -7, 100, 100]
    np.testing.assert_array_equal(
        plausible_num_examples(make_updates(5, num_examples=invalid)), [0, 0, 0, 0, 0]
    )


def test_reported_excess_by_class_returns_excess_and_level() -> None:
    values, counts = table(1)
    reports: list[dict[str, float | tuple[float, ...]]] = [
        {"class-losses": tuple(v), "class-counts": tuple(c), "received-loss": 99.0}
        for v, c in zip(values.tolist(), counts.tolist(), strict=True)
    ]
    updates = make_updates(len(values), values=reports)
    excess, level = reported_excess(updates, "class-losses", "received-loss")
    bounded = class_counts(updates)
    assert bounded is not None and (bounded <= counts).all()
    np.testing.assert_array_equal(excess, class_excess(values, bounded))
    assert level == np.median(images_mean(values, bounded))


def test_reported_excess_without_class_losses_uses_plain_losses() -> None:
    plain = [3.0, 1.0, float("nan"), 2.0]
    values: list[dict[str, float | tuple[float, ...]]] = [{"loss": v} for v in plain]
    excess, level = reported_excess(make_updates(4, values=values), "class-epoch-losses", "loss")
    np.testing.assert_array_equal(excess, plain)
    assert level == 2.0
    # Counts without losses by class, or with losses of other classes, are no comparison either.
    for extra in ({"class-counts": (1.0, 2.0)}, {"class-counts": (1.0, 2.0), "class-epoch-losses": (1.0,)}):
        more = make_updates(4, values=[{**each, **extra} for each in values])
        np.testing.assert_array_equal(reported_excess(more, "class-epoch-losses", "loss")[0], plain)
    excess, level = reported_excess(make_updates(4, values=[{}] * 4), "class-losses", "received-loss")
    assert np.isnan(excess).all() and level == 0

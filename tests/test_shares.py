from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import make_updates
from references import differences, stacked

from fedrobust.aggregation.shares import capped_shares, weighted_median, weighted_trimmed_mean
from fedrobust.commands.check import check_plugin
from fedrobust.federation import Defence
from strategies.geometric_median import GeometricMedian
from strategies.median import Median
from strategies.norm_clipping import NormClipping
from strategies.trimmed_mean import TrimmedMean

IMAGES = [5, 20, 10, 40, 25]


@pytest.mark.parametrize(
    ("images", "cap", "wanted"),
    [
        ([1, 1, 2], 1.0, [0.25, 0.25, 0.5]),
        ([1, 1, 8], 0.5, [0.25, 0.25, 0.5]),
        ([1, 3, 40, 50], 0.4, [0.05, 0.15, 0.4, 0.4]),
        ([1, 1, 8], 0.2, [1 / 3] * 3),
        ([0, 0, 0], 0.9, [1 / 3] * 3),
        ([0, 0, 7], 0.5, [0.25, 0.25, 0.5]),
        ([np.nan, np.inf, 3, -2, 3], 0.5, [0, 0, 0.5, 0, 0.5]),
    ],
)
def test_no_share_is_above_the_cap(images: list[float], cap: float, wanted: list[float]) -> None:
    np.testing.assert_allclose(capped_shares(np.array(images, float), cap), wanted)


@pytest.mark.parametrize("seed", range(3))
def test_whole_weights_are_copies_of_a_row(seed: int) -> None:
    rng = np.random.default_rng(seed)
    block, times = rng.standard_normal((6, 50)), rng.integers(1, 5, 6)
    times[0] += times.sum() % 2
    copies = np.repeat(block, times, axis=0)
    share = times / times.sum()
    np.testing.assert_allclose(weighted_median(block, share), np.median(copies, axis=0))
    rows, cut = np.sort(copies, axis=0), 3
    wanted = rows[cut : len(rows) - cut].mean(axis=0)
    np.testing.assert_allclose(weighted_trimmed_mean(block, share, cut / len(rows)), wanted)


@pytest.mark.parametrize("kind", [Median, TrimmedMean, GeometricMedian, NormClipping])
@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_equal_numbers_of_images_give_the_plain_rule(kind: Any, n: int) -> None:
    updates = make_updates(n, 60, buffers=4)
    plain, weighted = kind(), kind(cap=0.9)
    for one, other in (
        (plain.combine(updates)[0], weighted.combine(updates)[0]),
        (plain.combine_buffers(updates), weighted.combine_buffers(updates)),
    ):
        if one is not None:
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert plain.trusts == frozenset() and weighted.trusts == {"num_examples"}


def test_norm_clipping_weighs_clipped_differences_by_capped_shares() -> None:
    updates = make_updates(5, 30, num_examples=IMAGES)
    d = differences(updates)
    lengths = np.linalg.norm(d, axis=1)
    share = capped_shares(np.array(IMAGES, float), 0.3)
    wanted = updates.global_parameters + (share * np.minimum(1, np.median(lengths) / lengths)) @ d
    np.testing.assert_allclose(NormClipping(cap=0.3).combine(updates)[0], wanted, rtol=1e-5, atol=1e-6)


def test_geometric_median_weighs_distances() -> None:
    updates = make_updates(5, 30, num_examples=IMAGES)
    x, share = stacked(updates), capped_shares(np.array(IMAGES, float), 0.3)
    point = share @ x
    for _ in range(500):
        beta = share / np.linalg.norm(x - point, axis=1)
        point = beta @ x / beta.sum()
    np.testing.assert_allclose(GeometricMedian(cap=0.3).combine(updates)[0], point, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["median", "trimmed-mean", "geometric-median", "norm-clipping"])
def test_a_forged_size_reaches_no_more_than_the_cap(name: str) -> None:
    assert [one for one in check_plugin(f"{name}(cap=0.3)") if one.holds is False] == []
    kinds: dict[str, Any] = {"median": Median, "trimmed-mean": TrimmedMean}
    kinds |= {"geometric-median": GeometricMedian, "norm-clipping": NormClipping}
    rule: Defence = kinds[name](cap=0.3)
    honest, forged = (make_updates(5, 30, num_examples=[10, 10, 10, 10, last]) for last in (10**4, 10**9))
    np.testing.assert_allclose(rule.combine(honest)[0], rule.combine(forged)[0], rtol=1e-5, atol=1e-6)

from __future__ import annotations

import numpy as np
import pytest
from helpers import make_updates
from references import cosine_distances, differences
from sklearn.cluster import HDBSCAN

from fedrobust.aggregation.clusters import majority
from fedrobust.federation import Updates
from strategies.flame import Flame


@pytest.mark.parametrize("n", [4, 5, 9, 10, 23, 40])
@pytest.mark.parametrize("seed", range(4))
def test_flame_admitted_are_the_cluster_of_hdbscan(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 5)) + 2 * rng.standard_normal(5)
    distances = cosine_distances(x)
    distances = (distances + distances.T) / 2
    labels = HDBSCAN(
        min_cluster_size=n // 2 + 1, min_samples=1, allow_single_cluster=True, metric="precomputed", copy=True
    ).fit_predict(distances)
    np.testing.assert_array_equal(majority(distances), labels == 0)


@pytest.mark.parametrize(("n", "d"), [(4, 300), (10, 10_000), (23, 777)])
def test_flame_without_noise_follows_the_definition(n: int, d: int) -> None:
    updates = make_updates(n, d, seed=n)
    updates = Updates([u.with_delta((1 + u.node) * u.delta) for u in updates])
    found, verdict = Flame(noise=0.0).combine(updates)
    x = differences(updates)
    admitted = majority(cosine_distances(x))
    norms = np.linalg.norm(x, axis=1)
    clipped = x * np.minimum(1, np.median(norms) / norms)[:, None]
    np.testing.assert_allclose(
        found - updates.global_parameters, clipped[admitted].mean(axis=0), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(verdict.flagged, ~admitted)


def test_flame_outlying_direction_is_flagged() -> None:
    updates = list(make_updates(8, 500, seed=1))
    common = np.random.default_rng(2).standard_normal(500)
    deltas = [(-1 if u.node in (0, 3) else 1) * common + 0.3 * u.delta for u in updates]
    poisoned = Updates([u.with_delta(delta) for u, delta in zip(updates, deltas, strict=True)])
    verdict = Flame().combine(poisoned)[1]
    assert {0, 3} <= set(np.flatnonzero(verdict.flagged))
    assert set(np.argsort(verdict.score)[-2:]) == {0, 3}


def test_flame_noise_follows_the_median_length() -> None:
    updates = make_updates(5, 40_000)
    quiet, loud = (Flame(noise=noise).combine(updates)[0].astype(np.float64) for noise in (0.0, 0.001))
    median = np.median(np.linalg.norm(differences(updates), axis=1))
    assert abs((loud - quiet).std() / (0.001 * median) - 1) < 0.02


def test_flame_equal_heights_join_together() -> None:
    distances = np.ones((4, 4)) - np.eye(4)
    assert majority(distances).all()


@pytest.mark.parametrize("n", [5, 11, 12, 20])
@pytest.mark.parametrize("d", [5000, 70_000])
def test_flame_equal_updates_are_not_flagged(n: int, d: int) -> None:
    (first, *_) = updates = make_updates(n, d)
    same = Updates([u.with_delta(first.delta) for u in updates])
    assert not np.any(Flame().combine(same)[1].flagged)

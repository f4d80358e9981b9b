from __future__ import annotations

import numpy as np
import pytest
from helpers import make_updates
from references import differences

from fedrobust.federation import Updates
from strategies.signguard import SignGuard, _largest_cluster


def alike(n: int = 10, d: int = 3_000, seed: int = 0) -> list:
    """Return updates whose signs are distributed alike: 70 % positive."""
    rng = np.random.default_rng(seed)
    size = np.abs(rng.standard_normal((n, d)))
    signs = np.where(rng.random((n, d)) < 0.7, 1.0, -1.0)
    return [u.with_delta(row) for u, row in zip(make_updates(n, d, seed), size * signs, strict=True)]


def test_signguard_benign_updates_are_clipped_and_averaged() -> None:
    updates = Updates([u.with_delta((1 + 0.05 * u.node) * u.delta) for u in alike()])
    found, verdict = SignGuard(share=1.0).combine(updates)
    x = differences(updates)
    kept = ~np.asarray(verdict.flagged)
    assert kept.sum() >= 5
    norms = np.linalg.norm(x, axis=1)
    clipped = x * np.minimum(1, np.median(norms) / norms)[:, None]
    np.testing.assert_allclose(found - updates.global_parameters, clipped[kept].mean(axis=0), atol=1e-5)


@pytest.mark.parametrize("feature", ["none", "cosine", "distance"])
def test_signguard_flipped_signs_are_flagged(feature: str) -> None:
    updates = alike()
    poisoned = Updates([u.with_delta(-u.delta) if u.node in (1, 4) else u for u in updates])
    _, verdict = SignGuard(feature=feature).combine(poisoned)  # type: ignore[arg-type]
    assert {1, 4} <= set(np.flatnonzero(verdict.flagged)) and np.sum(verdict.flagged) <= 5
    assert "signs" in (verdict.why or [])[1]


@pytest.mark.parametrize(("times", "flagged"), [(0.05, True), (0.2, False), (2.5, False), (4.0, True)])
def test_signguard_outlying_lengths_are_flagged(times: float, flagged: bool) -> None:
    updates = alike(n=9)
    _, verdict = SignGuard(share=1.0).combine(
        Updates([*updates[:8], updates[8].with_delta(times * updates[8].delta)])
    )
    assert ("length" in (verdict.why or [])[8]) == flagged


def test_largest_cluster_of_several_is_returned() -> None:
    features = np.array([[0.0, 0], [0.01, 0], [0.0, 0.01], [1, 1], [1.01, 1]])
    assert _largest_cluster(features).tolist() == [True, True, True, False, False]
    assert _largest_cluster(np.zeros((4, 3))).all()


@pytest.mark.parametrize(("n", "d"), [(4, 300), (10, 10_000), (23, 777), (40, 2_000)])
@pytest.mark.parametrize("feature", ["none", "cosine", "distance"])
def test_signguard_random_updates_follow_the_definition(n: int, d: int, feature: str) -> None:
    from sklearn.cluster import MeanShift, estimate_bandwidth

    rng = np.random.default_rng(n)
    # Lengths from a tenth to five medians and signs of two kinds: each filter leaves some out.
    shift = np.where(np.arange(n) % 4 == 3, -1.0, 0.5)
    size = np.exp(rng.uniform(-3, 2, n))
    updates = Updates(
        [u.with_delta((u.delta + shift[u.node]) * size[u.node]) for u in make_updates(n, d, seed=n)]
    )
    found, verdict = SignGuard(share=1.0, feature=feature).combine(updates)  # type: ignore[arg-type]

    x = differences(updates)
    norms = np.array([np.sqrt(sum(row**2)) for row in x])
    median = np.median(norms)
    columns = [(x > 0).mean(axis=1), (x == 0).mean(axis=1), (x < 0).mean(axis=1)]
    if feature != "none":
        typical = []
        for i in range(n):
            others = [x[j] for j in range(n) if j != i]
            cosine = [x[i] @ y / np.linalg.norm(x[i]) / np.linalg.norm(y) for y in others]
            distance = [np.linalg.norm(x[i] - y) / median for y in others]
            typical.append(np.median(cosine if feature == "cosine" else distance))
        columns.append(np.array(typical))
    table = np.column_stack(columns)
    width = estimate_bandwidth(table, quantile=0.5, random_state=0)
    labels = MeanShift(bandwidth=width, cluster_all=False).fit(table).labels_
    sizes = {label: (labels == label).sum() for label in set(labels) - {-1}}
    first = next(label for label in labels if sizes.get(label) == max(sizes.values()))
    usual = (norms >= 0.1 * median) & (norms <= 3 * median)
    kept = usual & (labels == first) if (usual & (labels == first)).any() else usual
    clipped = x * np.minimum(1, median / norms)[:, None]
    assert 0 < kept.sum() < n
    np.testing.assert_array_equal(verdict.flagged, ~kept)
    wanted = clipped[kept].mean(axis=0)
    np.testing.assert_allclose(found - updates.global_parameters, wanted, atol=1e-5)

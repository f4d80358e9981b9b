from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import make_updates
from references import differences, stacked

from fedrobust.federation import Updates, Verdict
from fedrobust.federation.mixed import Mixed


@pytest.fixture
def source() -> Updates:
    return make_updates(5, 83, seed=1, buffers=4, nodes=[3, 1, 7, 5, 9])


@pytest.fixture
def mixing() -> np.ndarray:
    matrix = np.random.default_rng(2).random((5, 5))
    return matrix / matrix.sum(axis=1, keepdims=True) * np.array([[1.0], [1.0], [0.5], [1.0], [0.2]])


def test_mixed_updates_are_the_matrix_times_the_differences(source: Updates, mixing: np.ndarray) -> None:
    mixed, wanted = Mixed(source, mixing), mixing @ differences(source)
    weight = np.arange(1.0, 6.0)
    np.testing.assert_allclose([u.delta for u in mixed], wanted, atol=1e-6)
    np.testing.assert_allclose(mixed.gram(), wanted @ wanted.T, rtol=1e-6)
    np.testing.assert_allclose(mixed.norms(), np.linalg.norm(wanted, axis=1), rtol=1e-6)
    np.testing.assert_allclose(mixed.take(np.array([3, 80])), wanted[:, [3, 80]], atol=1e-6)
    base = source.global_parameters
    np.testing.assert_allclose(mixed.mean(weight), base + weight @ wanted / 15, atol=1e-6)
    np.testing.assert_allclose(mixed.combination(weight), base + weight @ wanted, atol=1e-5)
    np.testing.assert_allclose(
        mixed.by_coordinate(lambda b: b.max(axis=0)), (base + wanted).max(axis=0), atol=1e-6
    )
    for part, block in mixed.deltas(16):
        np.testing.assert_allclose(block, wanted[:, part], atol=1e-6)


def test_mixed_updates_are_of_the_same_hospitals(source: Updates, mixing: np.ndarray) -> None:
    mixed = Mixed(source, mixing)
    assert mixed.nodes == source.nodes == (1, 3, 5, 7, 9) and len(mixed) == 5 and mixed.dimension == 83
    assert [u.node for u in mixed[1:3]] == [3, 5] and mixed[-1].node == 9
    assert mixed.seed == source.seed and mixed[0].report is source[0].report


def test_mixed_chain_is_one_matrix(source: Updates, mixing: np.ndarray) -> None:
    chain = Mixed(Mixed(source, mixing), mixing.T)
    wanted = mixing.T @ mixing @ differences(source)
    np.testing.assert_allclose([u.delta for u in chain], wanted, atol=1e-6)
    verdict = chain.trace(Verdict(np.arange(5.0)))
    np.testing.assert_allclose(verdict.weight, np.arange(5.0) @ mixing.T @ mixing)


def test_mixed_buffers_follow_the_mixture(source: Updates, mixing: np.ndarray) -> None:
    buffers = np.stack([u.buffers for u in source]).astype(np.float64)
    share = mixing[2] / mixing[2].sum()
    np.testing.assert_allclose(Mixed(source, mixing)[2].buffers, share @ buffers, atol=1e-6)
    assert np.isfinite(Mixed(source, np.zeros((5, 5)))[0].buffers).all()


def test_mixed_groups_have_their_lowest_number(source: Updates) -> None:
    matrix = np.array([[0, 0, 0, 0.5, 0.5], [0.5, 0.5, 0, 0, 0], [0, 0, 1.0, 0, 0]])
    mixed = Mixed(source, matrix, [[3, 4], [0, 1], [2]])
    assert mixed.nodes == (1, 5, 7) and mixed.num_examples.tolist() == [20, 10, 20]
    np.testing.assert_allclose(mixed[0].parameters, stacked(source)[:2].mean(axis=0), atol=1e-6)
    verdict = mixed.trace(Verdict([1, 0, 3], [10, 20, 30], [0, 1, 0], ["x", "y", "z"]))
    assert np.asarray(verdict.score).tolist() == [10, 10, 20, 30, 30]
    assert verdict.why == ["x", "x", "y", "z", "z"] and np.flatnonzero(verdict.flagged).tolist() == [2]
    np.testing.assert_allclose(verdict.weight, [0.5, 0.5, 0, 1.5, 1.5])


@pytest.mark.parametrize("bad", [np.ones((4, 5)), np.full((5, 5), -1.0), np.full((5, 5), np.nan)])
def test_mixed_matrix_of_other_shape_is_refused(source: Updates, bad: Any) -> None:
    with pytest.raises(ValueError, match="mixing needs 5 x 5"):
        Mixed(source, bad)


def test_mixed_leaves_the_source_unchanged(source: Updates, mixing: np.ndarray) -> None:
    kept = stacked(source)
    mixed = Mixed(source, mixing)
    mixed[0].parameters[:] = 0
    for _, block in mixed.deltas():
        block[:] = 0
    np.testing.assert_array_equal(stacked(source), kept)

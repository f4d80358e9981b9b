from __future__ import annotations

import numpy as np
import pytest
from references import cosine_distances, distances
from references import krum_scores as reference_scores

from fedrobust.aggregation.geometry import (
    cosines,
    krum_scores,
    nearest,
    squared_distances,
    squared_distances_to,
)


@pytest.mark.parametrize("n", [1, 2, 9])
def test_distances_and_cosines_from_gram_are_the_definitions(n: int) -> None:
    x = np.random.default_rng(n).standard_normal((n, 30))
    gram = x @ x.T
    np.testing.assert_allclose(np.sqrt(squared_distances(gram)), distances(x), atol=1e-6)
    np.testing.assert_allclose(1 - cosines(gram), cosine_distances(x), atol=1e-9)
    np.testing.assert_allclose(krum_scores(squared_distances(gram), 1), reference_scores(x, 1), rtol=1e-9)
    c = np.random.default_rng(0).dirichlet(np.ones(n))
    wanted = np.linalg.norm(x - c @ x, axis=1)
    found = squared_distances_to(c, squared_distances(gram), gram)
    np.testing.assert_allclose(np.sqrt(found), wanted, atol=1e-6)


def test_squared_distances_of_equal_vectors_are_0() -> None:
    row = np.random.default_rng(0).standard_normal(1000)
    gram = np.full((3, 3), row @ row) * (1 + 1e-15 * np.random.default_rng(1).standard_normal((3, 3)))
    assert not squared_distances(gram).any()


def test_cosines_of_a_vector_of_length_0_are_0() -> None:
    assert cosines([[0.0, 0.0], [0.0, 4.0]]).tolist() == [[0, 0], [0, 1]]


def test_nearest_begins_with_itself_and_breaks_ties_by_order() -> None:
    squares = squared_distances(np.ones((4, 4)))
    assert nearest(squares, 2).tolist() == [[0, 1], [1, 0], [2, 0], [3, 0]]

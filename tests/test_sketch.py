from __future__ import annotations

from dataclasses import replace

import numpy as np
from helpers import make_updates
from references import differences

from fedrobust.aggregation.sketch import sketch, sketch_global
from fedrobust.federation import Updates


def test_sketch_of_short_vectors_is_exact() -> None:
    updates = make_updates(3, 100)
    np.testing.assert_allclose(sketch(updates), differences(updates), atol=1e-6)
    np.testing.assert_array_equal(sketch_global(updates), updates.global_parameters)


def test_sketch_keeps_inner_products() -> None:
    updates = make_updates(6, 50_000, seed=1)
    common = np.random.default_rng(2).standard_normal(50_000)
    updates = Updates([u.with_delta(u.delta + u.node / 3 * common) for u in updates])
    made, x = sketch(updates, 4096), differences(updates)
    assert made.shape == (6, 4096)
    lengths = np.linalg.norm(x, axis=1)
    error = (made @ made.T - x @ x.T) / np.outer(lengths, lengths)
    # One standard deviation is 1 / sqrt(4096) = 0.016.
    assert 0.001 < np.abs(error).max() < 0.08


def test_sketch_is_linear_and_the_same_in_every_round() -> None:
    updates = make_updates(2, 50_000)
    doubled = Updates([replace(u.with_delta(2 * u.delta), round=5) for u in updates])
    np.testing.assert_allclose(sketch(doubled, 1000), 2 * sketch(updates, 1000), atol=1e-2)
    other = Updates(list(updates), seed=1)
    assert not np.allclose(sketch(other, 1000), sketch(updates, 1000))
    # A difference of models, sketched, is the sketch of an update.
    moved = Updates([replace(updates[0], global_parameters=updates[0].parameters)])
    np.testing.assert_allclose(
        sketch_global(moved, 1000) - sketch_global(updates, 1000), sketch(updates, 1000)[0], atol=1e-3
    )


def test_sketch_of_a_repeating_vector_keeps_its_length() -> None:
    # The same signs in each stretch would add this one up to zero, or to four times its like.
    row = np.random.default_rng(0).standard_normal(1000)
    base = make_updates(2, 4000)
    deltas = [np.concatenate([row, -row, row, -row]), np.concatenate([row] * 4)]
    updates = Updates([u.with_delta(delta) for u, delta in zip(base, deltas, strict=True)])
    squares = (sketch(updates, 1000) ** 2).sum(axis=1) / (4 * row @ row)
    np.testing.assert_allclose(squares, 1.0, atol=0.3)

"""What colluding attacks share: the updates that they use, and the line of Min-Max and Min-Sum."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import make_updates

from fedrobust.attacks.collusion import PERTURBATIONS, Line, alike, seen


def test_seen_are_the_honest_where_they_are_shown() -> None:
    updates = make_updates(5)
    assert seen(updates[:2], updates[2:]).nodes == (2, 3, 4)
    assert seen(updates[:2], []).nodes == (0, 1)


def test_alike_changes_the_parameters_alone() -> None:
    updates = make_updates(3, buffers=2)
    target = np.zeros(40, np.float32)
    for before, after in zip(updates, alike(updates[:], target), strict=True):
        assert after.parameters is target
        assert (after.node, after.report, after.buffers) == (before.node, before.report, before.buffers)


@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_line_follows_its_definition(kind: str) -> None:
    updates = make_updates(6, d=20_000)
    deltas = np.array([u.delta for u in updates], np.float64)
    mean = deltas.mean(0)
    p = -{"std": deltas.std(0), "sign": np.sign(mean), "unit": mean / np.linalg.norm(mean)}[kind]
    line = Line(updates, kind)
    for gamma in (0.0, 0.7, 3.0):
        point = mean + gamma * p
        np.testing.assert_allclose(line.at(gamma) - updates.global_parameters, point, atol=1e-5)
        np.testing.assert_allclose(line.squares_to(gamma), np.square(point - deltas).sum(1), rtol=1e-6)


def test_line_search_finds_the_edge() -> None:
    line = Line(make_updates(5), "std")
    for edge in (0.01, 0.5, 1.3):
        limit = float(line.squares_to(edge).sum())
        assert line.farthest(lambda squares, limit=limit: squares.sum() <= limit) == pytest.approx(
            edge, abs=1e-4
        )
    assert line.farthest(lambda squares: False) == 0.0


def test_line_of_one_update_is_a_point() -> None:
    updates = make_updates(1)
    line = Line(updates, "std")
    gamma = line.farthest(lambda squares: True)
    assert gamma == 0.0
    np.testing.assert_allclose(line.at(gamma), updates[0].parameters, atol=1e-6)

"""Rules decide alike whatever a BLAS rounds, and follow their definitions at any scale of an update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers import make_updates
from references import (
    centered_clipping,
    copod,
    cosine_distances,
    differences,
    distances,
    foolsgold,
    krum_scores,
    weiszfeld,
)

from fedrobust.aggregation.geometry import nearest, significant, squared_distances
from fedrobust.federation import Update, Updates
from strategies.bulyan import Bulyan
from strategies.centered_clipping import CenteredClipping
from strategies.dnc import DnC
from strategies.dos import DOS
from strategies.foolsgold import FoolsGold
from strategies.geometric_median import GeometricMedian
from strategies.krum import Krum
from strategies.multi_krum import MultiKrum


class OtherBLAS(Updates):
    """The same updates, with inner products that differ by rounding."""

    def __init__(self, updates: Sequence[Update], draw: int) -> None:
        super().__init__(updates)
        self._draw = draw

    def gram(self) -> np.ndarray[Any, Any]:
        exact = super().gram()
        noise = np.random.default_rng(self._draw).integers(-4, 5, exact.shape)
        lengths = np.sqrt(np.diagonal(exact))
        return np.asarray(exact + noise * 2.0**-53 * np.outer(lengths, lengths))


def colluding(seed: int) -> Updates:
    """Return a round in which several hospitals send the same update, close to the honest ones' mean."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(7, 16)), int(rng.integers(20, 2000))
    updates = list(make_updates(n, d, seed))
    who = rng.choice(n, int(rng.integers(2, (n - 3) // 2 + 1)), replace=False)
    same = np.mean([update.delta for update in updates], axis=0) * rng.uniform(0.5, 1.5)
    return Updates([u.with_delta(same) if u.node in who else u for u in updates])


def lowest_of_the_best(x: np.ndarray[Any, Any], f: int, count: int) -> list[int]:
    """Return the `count` updates of the lowest Krum scores by the definition, ties to the lower number."""
    scores = krum_scores(x, f)
    return sorted(range(len(x)), key=lambda i: (float(f"{scores[i]:.9g}"), i))[:count]


@pytest.mark.parametrize("seed", range(60))
def test_krum_of_identical_updates_takes_the_lower_number(seed: int) -> None:
    updates = colluding(seed)
    n, x = len(updates), differences(updates)
    f = (n - 3) // 2
    kept = sorted(lowest_of_the_best(x, f, n - f))
    for given in (updates, OtherBLAS(list(updates), 1), OtherBLAS(list(updates), 2)):
        one = np.flatnonzero(Krum(f=f).weigh(given).weight)
        several = np.flatnonzero(MultiKrum(f=f).weigh(given).weight)
        assert one.tolist() == lowest_of_the_best(x, f, 1)
        assert several.tolist() == kept


@pytest.mark.parametrize("seed", range(20))
def test_equal_updates_get_equal_scores(seed: int) -> None:
    updates = colluding(seed)
    score = np.asarray(Krum().weigh(OtherBLAS(list(updates), seed)).score)
    rows = [update.parameters.tobytes() for update in updates]
    for i, row in enumerate(rows):
        assert score[i] == score[rows.index(row)]


def test_ties_between_different_updates_go_to_the_lower_number() -> None:
    # On a line, mirrored about update 3: 2, 3 and 4 have one score, 1 and 5 another, 0 and 6 a third.
    still = [replace(u, global_parameters=np.zeros(300, np.float32)) for u in make_updates(7, 300)]
    way = np.random.default_rng(0).integers(-99, 100, 300)
    updates = [u.with_delta((u.node - 3) * way) for u in still]
    for draw in range(20):
        order = np.argsort(
            significant(np.asarray(Krum(f=0).weigh(OtherBLAS(updates, draw)).score)), kind="stable"
        )
        assert order.tolist() == [2, 3, 4, 1, 5, 0, 6]


@pytest.mark.parametrize("rule", [Bulyan(f=1), DnC(f=2)])
@pytest.mark.parametrize("seed", range(10))
def test_other_choices_among_identical_updates_do_not_depend_on_the_blas(rule: Any, seed: int) -> None:
    updates = colluding(seed)
    wanted = rule.combine(updates)[0]
    for draw in (1, 2, 3):
        np.testing.assert_array_equal(rule.combine(OtherBLAS(list(updates), draw))[0], wanted)


def test_nearest_among_identical_updates_are_the_lower_numbers() -> None:
    updates = make_updates(8, 400, seed=2)
    same = [
        replace(update, parameters=updates[5].parameters) if update.node > 3 else update for update in updates
    ]
    for draw in range(10):
        near = nearest(squared_distances(OtherBLAS(same, draw).gram()), 3)
        assert near[4:].tolist() == [[4, 5, 6], [5, 4, 6], [6, 4, 5], [7, 4, 5]]


def test_significant_rounds_relative_to_each_value() -> None:
    values = np.array([0.0, 1.0, -3.0, 1e-300, 1e300, np.pi])
    rounded = significant(values)
    np.testing.assert_allclose(rounded, values, rtol=2e-9)
    assert (rounded == significant(values * (1 + 2.0**-50))).all()
    assert (significant(values[1:] * (1 + 1e-7)) != rounded[1:]).all()


def scaled(n: int, factors: dict[int, float], seed: int = 0) -> Updates:
    updates = make_updates(n, 60, seed)
    return Updates([u.with_delta(u.delta.astype(np.float64) * factors.get(u.node, 1.0)) for u in updates])


SCALES = [1e2, 1e4, 1e6, 1e9, 1e12, 1e16, 1e20, 1e28]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("wild", [(0,), (3, 7), (1, 2, 8)])
def test_geometric_median_is_the_definition_beside_an_update_of_any_scale(
    scale: float, wild: tuple[int, ...]
) -> None:
    updates = scaled(9, {node: scale * (1 + place) for place, node in enumerate(wild)})
    x = differences(updates)
    wanted = weiszfeld(x, 1e-6, 1000)
    rule = GeometricMedian()
    found, verdict = rule.combine(updates)
    np.testing.assert_allclose(found - updates.global_parameters, wanted, atol=1e-5)
    np.testing.assert_allclose(verdict.score, np.linalg.norm(x - wanted, axis=1), rtol=1e-5)
    assert np.linalg.norm(wanted) < 30


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("iterations", [1, 2, 3, 10])
@pytest.mark.parametrize("tau", [None, 2.0])
def test_centered_clipping_is_the_definition_beside_an_update_of_any_scale(
    scale: float, iterations: int, tau: float | None
) -> None:
    rule, centre = CenteredClipping(tau=tau, iterations=iterations), np.zeros(60)
    for round_ in (1, 2):
        updates = scaled(8, {2: scale}, seed=round_)
        x = differences(updates)
        found, verdict = rule.combine(updates)
        centre = centered_clipping(x, centre, tau, iterations)
        np.testing.assert_allclose(found - updates.global_parameters, centre, atol=1e-5)
        weight = np.asarray(verdict.weight)
        assert weight[2] < 1.1 * weight.min() and weight.max() > 0.5 / 8 * (tau is None)


@pytest.mark.parametrize("scale", [1e2, 1e4, 1e5])
@pytest.mark.parametrize("seed", range(5))
def test_dos_beside_a_long_update_is_the_definition(scale: float, seed: int) -> None:
    updates = scaled(11, {3: scale, 7: 2 * scale}, seed)
    x = differences(updates)
    score = (copod(distances(x)) + copod(cosine_distances(x))) / 2
    np.testing.assert_allclose(DOS().weigh(updates).score, score, rtol=1e-9)


@pytest.mark.parametrize("seed", range(40))
def test_foolsgold_of_near_orthogonal_updates_is_the_pseudocode(seed: int) -> None:
    # So few that some have no positive cosine with anybody.
    updates = make_updates(3 + seed % 3, 400, seed)
    np.testing.assert_allclose(FoolsGold().weigh(updates).weight, foolsgold(differences(updates)), atol=1e-5)


def test_foolsgold_gives_full_weight_to_a_hospital_unlike_everybody() -> None:
    base = make_updates(3, 3)
    rows = [[1.0, 0.0, -0.1], [0.0, 1.0, -0.1], [-0.1, -0.1, 1.0]]
    updates = Updates([u.with_delta(np.array(row)) for u, row in zip(base, rows, strict=True)])
    verdict = FoolsGold().weigh(updates)
    assert np.asarray(verdict.score).tolist() == pytest.approx([0.0099, 0.0099, 0.0], abs=1e-4)
    np.testing.assert_allclose(verdict.weight, 1.0)

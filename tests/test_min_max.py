"""Min-Max and Min-Sum: as far along their line as their inequality allows, and no farther."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import make_updates
from numpy.typing import NDArray

from clients.min_max import MinMax
from clients.min_sum import MinSum
from fedrobust.attacks.collusion import PERTURBATIONS, Agnostic

BOTH = pytest.mark.parametrize("kind", [MinMax, MinSum])


def reach_and_limit(
    kind: type[Agnostic], point: NDArray[np.float64], deltas: NDArray[np.float64]
) -> tuple[float, float]:
    """Return both sides of the paper's inequality, from its definition."""
    to_point = np.square(deltas - point).sum(axis=1)
    between = np.square(deltas[:, None] - deltas).sum(axis=2)
    if kind is MinMax:
        return to_point.max(), between.max()
    return to_point.sum(), between.sum(axis=1).max()


@BOTH
@pytest.mark.parametrize("perturbation", PERTURBATIONS)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
@pytest.mark.parametrize("seed", range(3))
def test_agnostic_goes_as_far_as_allowed(
    kind: type[Agnostic], perturbation: str, scale: float, seed: int
) -> None:
    updates = [u.with_delta(scale * u.delta) for u in make_updates(9, d=300, seed=seed)]
    colluders, honest = updates[:2], updates[2:]
    deltas = np.array([u.delta for u in honest], np.float64)
    mean = deltas.mean(0)
    p = -{"std": deltas.std(0), "sign": np.sign(mean), "unit": mean / np.linalg.norm(mean)}[perturbation]
    one, two = kind(perturbation).collude(colluders, honest)
    np.testing.assert_array_equal(one.parameters, two.parameters)
    sent = one.delta.astype(np.float64)
    gamma = (sent - mean) @ p / (p @ p)
    assert gamma > 0
    np.testing.assert_allclose(sent, mean + gamma * p, atol=1e-3 * np.abs(sent).max())
    for factor, within in ((0.999, True), (1.001, False)):
        reach, limit = reach_and_limit(kind, mean + factor * gamma * p, deltas)
        assert (reach <= limit) == within


@BOTH
def test_agnostic_with_partial_knowledge_the_colluders_stand_in(kind: type[Agnostic]) -> None:
    updates = make_updates(6)
    partial = kind(knowledge="colluders").collude(updates[:3], ())
    full = kind().collude(updates[3:], updates[:3])
    np.testing.assert_array_equal(partial[0].parameters, full[0].parameters)


@BOTH
def test_agnostic_single_colluder_that_sees_no_others_stays_as_it_is(kind: type[Agnostic]) -> None:
    (alone,) = make_updates(1)
    np.testing.assert_allclose(kind().collude([alone], ())[0].parameters, alone.parameters, atol=1e-6)

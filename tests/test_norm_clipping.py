from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers import make_updates, restored
from references import clipped, differences

from fedrobust.federation import Updates
from strategies.norm_clipping import NormClipping


@pytest.mark.parametrize(
    ("n", "d", "limit"), [(4, 300, 5.0), (5, 1, 0.1), (10, 10_000, None), (40, 500, 1e9)]
)
def test_norm_clipping_random_updates_follow_the_definition(n: int, d: int, limit: float | None) -> None:
    updates = make_updates(n, d, seed=n)
    updates = Updates([u.with_delta((u.node + 1) * u.delta) for u in updates])
    found, verdict = NormClipping(limit=limit).combine(updates)
    x = differences(updates)
    bound = float(np.median(np.linalg.norm(x, axis=1))) if limit is None else limit
    np.testing.assert_allclose(found - updates.global_parameters, clipped(x, bound).mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(verdict.score, np.linalg.norm(x, axis=1), rtol=1e-6)
    np.testing.assert_allclose(np.asarray(verdict.weight) * verdict.score <= bound * (1 + 1e-9), True)


def test_norm_clipping_noise_follows_size_round_and_seed() -> None:
    updates = make_updates(3, 40_000)
    plain = NormClipping().combine(updates)[0]

    def noise(seed: int, round_: int) -> np.ndarray:
        moved = Updates([replace(u, round=round_) for u in updates], seed)
        return np.asarray(NormClipping(noise=0.01).combine(moved)[0] - plain, np.float64)

    first = noise(0, 1)
    assert abs(first.std() - 0.01) < 2e-4 and abs(first.mean()) < 2e-4
    np.testing.assert_array_equal(noise(0, 1), first)
    assert not np.array_equal(noise(0, 2), first) and not np.array_equal(noise(1, 1), first)


def test_norm_clipping_update_of_length_0_is_unchanged() -> None:
    updates = make_updates(3, 20)
    still = Updates([replace(u, parameters=u.global_parameters) for u in updates])
    np.testing.assert_array_equal(NormClipping().combine(still)[0], updates.global_parameters)


def test_norm_clipping_to_the_previous_median_survives_a_restart() -> None:
    rule = NormClipping(limit="previous", cap=0.3)
    medians = []
    for number, length in enumerate((1.0, 4.0, 0.0, 2.0)):
        updates = make_updates(5, 30, seed=number, num_examples=[10, 10, 20, 30, 30])
        updates = Updates([u.with_delta(length * u.delta) for u in updates])
        x = differences(updates)
        bound = next((m for m in reversed(medians) if m), np.median(np.linalg.norm(x, axis=1)))
        share = np.array([0.1, 0.1, 0.2, 0.3, 0.3])
        fresh = NormClipping(limit="previous", cap=0.3)
        fresh.load_state(restored(rule.state()))
        found = rule.combine(updates)[0]
        with np.errstate(divide="ignore"):
            wanted = share @ clipped(x, bound)
        np.testing.assert_allclose(found - updates.global_parameters, wanted, atol=1e-5)
        np.testing.assert_array_equal(fresh.combine(updates)[0], found)
        medians.append(float(np.median(np.linalg.norm(x, axis=1))))

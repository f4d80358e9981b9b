from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers import make_updates
from references import differences, fltrust
from server_images import QuadraticServerData

import fedrobust.federation.updates
from fedrobust.errors import UserError
from fedrobust.federation import Updates
from fedrobust.plugins import instantiate
from strategies.fltrust import FLTrust
from strategies.nnm import NNM


def rule(target: object) -> FLTrust:
    made = FLTrust()
    made.server = QuadraticServerData(np.asarray(target))
    return made


def own_update(updates: Updates, target: np.ndarray) -> np.ndarray:
    fresh = (
        QuadraticServerData(target).trained(updates.global_parameters, updates.global_buffers, 1).parameters
    )
    return np.asarray(fresh.astype(np.float64) - updates.global_parameters)


@pytest.mark.parametrize(("n", "d"), [(1, 30), (4, 300), (10, 10_000), (23, 777)])
def test_fltrust_random_updates_follow_the_definition(n: int, d: int) -> None:
    updates = make_updates(n, d, seed=n)
    target = np.random.default_rng(n + 100).standard_normal(d)
    found, verdict = rule(target).combine(updates)
    own, x = own_update(updates, target), differences(updates)
    np.testing.assert_allclose(found - updates.global_parameters, fltrust(x, own), atol=2e-6)
    cosine = x @ own / np.linalg.norm(x, axis=1) / np.linalg.norm(own)
    np.testing.assert_allclose(verdict.weight, np.maximum(cosine, 0), atol=1e-9)
    np.testing.assert_allclose(verdict.score, 1 - cosine, atol=1e-9)
    np.testing.assert_array_equal(verdict.flagged, cosine <= 0)
    assert [bool(words) for words in verdict.why or []] == (cosine <= 0).tolist()


def test_fltrust_in_small_chunks_and_after_a_step_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    updates = make_updates(9, 301, seed=3)
    target = np.random.default_rng(101).standard_normal(301)
    mixed = NNM(f=2).transform(updates)
    plain = Updates(list(mixed))
    np.testing.assert_allclose(
        rule(target).combine(mixed)[0], rule(target).combine(plain)[0], rtol=1e-5, atol=1e-6
    )
    complete = rule(target).combine(updates)[0]
    monkeypatch.setattr(fedrobust.federation.updates, "CHUNK", 16)
    parts = rule(target).combine(Updates(list(updates)))[0]
    np.testing.assert_allclose(parts, complete, atol=1e-6)


def test_fltrust_ignores_length_and_numbering() -> None:
    updates = make_updates(6, 50, seed=1)
    target = np.random.default_rng(102).standard_normal(50)
    found, verdict = rule(target).combine(updates)
    loud = Updates([u.with_delta(u.delta * 10.0**u.node) for u in updates])
    np.testing.assert_allclose(rule(target).combine(loud)[0], found, atol=1e-4)
    reversed_order = Updates([replace(u, node=5 - u.node) for u in updates])
    again, other_verdict = rule(target).combine(reversed_order)
    np.testing.assert_allclose(again, found, atol=1e-6)
    np.testing.assert_allclose(other_verdict.weight, np.asarray(verdict.weight)[::-1])
    assert (
        np.linalg.norm(found - updates.global_parameters)
        <= np.linalg.norm(own_update(updates, target)) + 1e-5
    )


def test_fltrust_without_trust_keeps_the_model() -> None:
    updates = make_updates(4, 50, seed=1)
    target = updates.global_parameters + 5.0
    against = Updates([u.with_delta(-0.1 * (target - u.global_parameters)) for u in updates])
    found, verdict = rule(target).combine(against)
    np.testing.assert_array_equal(found, updates.global_parameters)
    assert not np.any(verdict.weight) and np.all(verdict.flagged)


def test_fltrust_server_update_of_length_0_flags_no_hospital() -> None:
    updates = make_updates(4, 50, seed=1)
    found, verdict = rule(updates.global_parameters).combine(updates)
    np.testing.assert_array_equal(found, updates.global_parameters)
    assert not np.any(verdict.weight) and not np.any(verdict.flagged)


def test_fltrust_update_of_length_0_has_no_trust() -> None:
    updates = list(make_updates(4, 50, seed=1))
    updates[2] = replace(updates[2], parameters=updates[2].global_parameters)
    found, verdict = rule(np.ones(50)).combine(Updates(updates))
    assert np.isfinite(found).all() and np.asarray(verdict.weight)[2] == 0


def test_fltrust_server_trains_from_the_global_model_and_buffers() -> None:
    seen: list[tuple[np.ndarray, np.ndarray, int]] = []

    class Recording(QuadraticServerData):
        def trained(self, parameters, buffers, round):  # type: ignore[no-untyped-def]
            seen.append((parameters, buffers, round))
            return super().trained(parameters, buffers, round)

    statistics = np.arange(3, dtype=np.float32)
    updates = Updates(
        [replace(u, global_buffers=statistics) for u in make_updates(4, 50, round=7, buffers=3)]
    )
    made = FLTrust()
    made.server = Recording(np.ones(50))
    made.combine(updates)
    np.testing.assert_array_equal(seen[0][0], updates.global_parameters)
    np.testing.assert_array_equal(seen[0][1], statistics)
    assert seen[0][2] == 7


@pytest.mark.parametrize("share", [0, -0.1, 1.5, True, "all", float("nan")])
def test_fltrust_invalid_share_is_refused(share: object) -> None:
    with pytest.raises(UserError, match="fltrust: share is"):
        instantiate(FLTrust, {"share": share}, "fltrust")


def test_fltrust_without_images_is_refused() -> None:
    with pytest.raises(UserError, match="FLTrust needs labelled images"):
        FLTrust().combine(make_updates())


@pytest.mark.parametrize("size", [1e-3, 1e-8, 1e-12, 1e-25, 1e-40])
def test_fltrust_tiny_update_counts_by_its_direction(size: float) -> None:
    updates = make_updates(9, 300, seed=4)
    target = np.random.default_rng(103).standard_normal(300)
    # A parameter that is 0, so that a difference as small as that can be sent at all.
    base = updates.global_parameters.copy()
    base[7] = 0
    updates = Updates([replace(u, parameters=base + u.delta, global_parameters=base) for u in updates])
    own = own_update(updates, target)
    tiny = base.copy()
    tiny[7] = np.float32(size) * np.sign(own[7])
    updates = Updates([replace(updates[0], parameters=tiny), *updates[1:]])
    found = rule(target).combine(updates)[0].astype(np.float64) - base
    x = differences(updates)
    # The definition is scale-free in each update.
    x[0] = np.sign(own[7]) * (np.arange(300) == 7)
    np.testing.assert_allclose(found, fltrust(x, own), atol=2e-6)

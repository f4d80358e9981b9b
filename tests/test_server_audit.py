"""The server's audit against a definition in float64 that stacks all updates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from helpers import make_updates
from numpy.typing import NDArray
from server_images import QuadraticServerData
from softmax import CLASSES, Images, Site, flipped, losses, site, trained

from fedrobust.federation import ClientMetrics, DifferentiableServerData, Updates, Vector
from fedrobust.federation.mixed import Mixed
from fedrobust.scoring.server_audit import audit_updates

SEEDS = range(4)


class Slopes(QuadraticServerData):
    """Images whose classes pull in given directions from the model, and by the running statistics."""

    def __init__(self, directions: np.ndarray) -> None:
        super().__init__(directions[0])
        self.directions = directions
        self.seen: list[NDArray[np.int64]] = []

    def gradients(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.int64] | None = None
    ) -> Iterator[Vector]:
        assert images is not None
        self.seen.append(images)
        for direction in self.directions:
            yield (parameters - (1 + buffers.sum()) * direction).astype(np.float32)


def plain(
    updates: Updates, server: Slopes, weight: np.ndarray, factor: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the harm and the class cosines, the harm to all classes added."""
    share = weight * factor / (weight * factor).sum()
    base = updates.global_parameters.astype(np.float64)
    deltas = [u.parameters.astype(np.float64) - base for u in updates]
    mean = base + sum(w * delta for w, delta in zip(share, deltas, strict=True))
    buffers = sum(w * u.buffers.astype(np.float64) for w, u in zip(share, updates, strict=True))
    slopes = [mean - (1 + np.sum(buffers)) * direction for direction in server.directions]

    def cosine(x: np.ndarray, y: np.ndarray) -> float:
        return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))

    classes = np.array([[cosine(delta, slope) for slope in slopes] for delta in deltas])
    norms = np.array([np.linalg.norm(delta) for delta in deltas]) * factor
    balanced = np.array([cosine(delta, np.sum(slopes, axis=0)) for delta in deltas])
    harm = (balanced + classes.min(axis=1)) * norms / np.median(norms)
    return harm, classes + np.maximum(balanced, 0.0)[:, None]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mixed", [False, True])
def test_audit_random_updates_follow_the_definition(seed: int, mixed: bool) -> None:
    draw = np.random.default_rng(seed)
    updates: Updates = make_updates(6, seed=seed, buffers=3)
    if mixed:
        mixing = draw.random((6, 6))
        updates = Mixed(updates, mixing / mixing.sum(axis=1, keepdims=True))
    server = Slopes(draw.standard_normal((3, 40)))
    weight, factor = draw.random(6), draw.random(6)
    kept = [u.parameters.copy() for u in updates], weight.copy(), factor.copy()
    harm, classes = audit_updates(updates, server, weight, factor)
    wanted = plain(Updates(list(updates)), server, weight, factor)
    np.testing.assert_allclose(harm, wanted[0], atol=1e-5)
    np.testing.assert_allclose(classes, wanted[1], atol=1e-5)
    assert len(server.seen) == 1
    for update, before in zip(updates, kept[0], strict=True):
        np.testing.assert_array_equal(update.parameters, before)
    np.testing.assert_array_equal(weight, kept[1])
    np.testing.assert_array_equal(factor, kept[2])


def test_audit_class_cosine_is_the_change_of_the_class_loss() -> None:
    """A small step along an update changes each class's loss by as much as its cosine says."""
    sites = [site((30, 30, 30, 30), seed) for seed in range(5)]
    sites[3] = flipped(sites[3])
    start = np.zeros(81 * CLASSES, np.float32)
    updates = Updates([trained(own, start, node, 1) for node, own in enumerate(sites)])
    images = site((40, 30, 20, 10), 999)
    # Round 1 sees every second image of a class with more than 20.
    half = np.concatenate([np.arange(1, 40, 2), np.arange(41, 70, 2), np.arange(70, 100)])
    server, images = Images(images), Site(images.images[half], images.labels[half])
    assert isinstance(server, DifferentiableServerData)
    weight = np.ones(5)
    harm, classes = audit_updates(updates, server, weight, np.ones(5))
    mean = updates.mean(weight).astype(np.float64)
    slopes = list(server.gradients(mean.astype(np.float32), np.zeros(0, np.float32), half))
    steep = [float(np.linalg.norm(slope)) for slope in [*slopes, np.sum(slopes, axis=0)]]
    for i, update in enumerate(updates):
        step = 1e-4 * update.delta.astype(np.float64)
        up, down = (losses(mean + s * step, images.images, images.labels) for s in (1, -1))
        change = [(up - down)[images.labels == k].mean() / 2e-4 for k in range(CLASSES)]
        cosines = np.array([*change, np.sum(change)]) / np.linalg.norm(update.delta) / steep
        assert classes[i] == pytest.approx(cosines[:-1] + max(cosines[-1], 0.0), abs=1e-4)
    assert harm.argmax() == 3 and np.delete(harm, 3).max() < 0 < harm[3]


def test_audit_help_for_one_class_is_netted_against_harm() -> None:
    base = np.zeros(40, np.float32)
    rare, common = np.eye(40)[0], np.eye(40)[1]
    # The mean lowers the loss of neither class yet: both gradients point away from where it should go.
    server = Slopes(1000 * np.array([rare, common]))
    deltas = [rare - 0.2 * common, -rare - common, *[rare + common] * 3]
    updates = Updates(
        [
            replace(u, parameters=(base + delta).astype(np.float32), global_parameters=base)
            for u, delta in zip(make_updates(5, d=40), deltas, strict=True)
        ]
    )
    harm, classes = audit_updates(updates, server, np.ones(5), np.ones(5))
    assert classes[0, 0] < -0.9 and classes[0, 1] > 0.1
    assert harm[0] < 0 and harm[1] > 1 and harm[2:].max() < -1


def test_audit_of_what_hospitals_report_uses_nothing() -> None:
    updates = make_updates(6)
    claims = ClientMetrics(10**6, {"class-counts": (0.0, 0.0, 1e9), "received-loss": 99.0, "loss": 0.01})
    other = Updates([replace(updates[0], report=claims), *list(updates)[1:]], updates.seed)
    server = Slopes(np.random.default_rng(0).standard_normal((3, 40)))
    found, wanted = (audit_updates(u, server, np.ones(6), np.ones(6)) for u in (other, updates))
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_array_equal(found[1], wanted[1])


def test_audit_sees_each_half_of_a_large_class_in_turn_and_a_small_class_whole() -> None:
    server = Slopes(np.random.default_rng(0).standard_normal((3, 40)))
    server.labels = np.random.default_rng(1).permutation(np.repeat([0, 1, 2], [41, 21, 20]))
    for number in (1, 2, 3):
        updates = Updates([replace(update, round=number) for update in make_updates(4)])
        audit_updates(updates, server, np.ones(4), np.ones(4))
    odd, even, again = server.seen
    np.testing.assert_array_equal(again, odd)
    np.testing.assert_array_equal(np.union1d(odd, even), np.arange(82))
    assert set(server.labels[np.intersect1d(odd, even)]) == {2}
    counts = [np.bincount(server.labels[seen]).tolist() for seen in (odd, even)]
    assert counts == [[20, 10, 20], [21, 11, 20]]
    assert all((np.diff(seen) > 0).all() for seen in (odd, even))


class Fixed(Slopes):
    """Images with the same gradients at every model."""

    def gradients(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.int64] | None = None
    ) -> Iterator[Vector]:
        return (direction.astype(np.float32) for direction in self.directions)


def test_audit_longer_updates_count_more_up_to_their_bound() -> None:
    updates = make_updates(5)
    server = Fixed(np.random.default_rng(0).standard_normal((3, 40)))
    before, classes = audit_updates(updates, server, np.ones(5), np.ones(5))
    long = Updates([updates[0].with_delta(4 * updates[0].delta), *list(updates)[1:]], updates.seed)
    after, same = audit_updates(long, server, np.ones(5), np.array([0.25, 1, 1, 1, 1]))
    np.testing.assert_allclose(after, before, atol=1e-5)
    np.testing.assert_allclose(same, classes, atol=1e-5)
    # Without the bound its harm counts by its length in median lengths.
    norms = long.norms()
    alone, _ = audit_updates(long, server, np.ones(5), np.ones(5))
    unit = before[0] / (updates.norms()[0] / np.median(updates.norms()))
    assert alone[0] == pytest.approx(unit * norms[0] / np.median(norms), rel=1e-4)


def test_audit_without_a_finite_gradient_or_length_is_0() -> None:
    updates = make_updates(4)
    still = Updates([u.with_delta(0 * u.delta) for u in updates])
    server = Slopes(np.random.default_rng(0).standard_normal((2, 40)))
    harm, classes = audit_updates(still, server, np.ones(4), np.ones(4))
    assert not harm.any() and not classes.any()
    broken = Slopes(np.array([np.full(40, np.nan), np.ones(40)]))
    with np.errstate(invalid="ignore"):
        harm, classes = audit_updates(updates, broken, np.ones(4), np.ones(4))
    assert np.isfinite(harm).all() and not classes[:, 0].any() and classes[:, 1].any()


def test_audit_order_of_hospitals_does_not_matter() -> None:
    updates, server = make_updates(5), QuadraticServerData(np.ones(40))
    order = [3, 0, 4, 1, 2]
    renumbered = make_updates(5, nodes=np.argsort(order).tolist())
    found, other = (audit_updates(u, server, np.ones(5), np.ones(5)) for u in (updates, renumbered))
    np.testing.assert_allclose(other[0], found[0][order], atol=1e-5)
    np.testing.assert_allclose(other[1], found[1][order], atol=1e-5)

"""Networks on threads of their own: the same bits, and none where chance would decide."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

from fedrobust.data.records import Records
from fedrobust.learners.backbones import build_backbone
from fedrobust.learners.mutual import MutualLearner
from fedrobust.learners.side_by_side import side_by_side
from fedrobust.learners.spec import LearnerSpec
from fedrobust.plugins import PluginSpec

CPU = torch.device("cpu")


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def networks(name: str, count: int = 2) -> nn.ModuleList:
    return nn.ModuleList(build_backbone(name, 1, 8, (28, 28)) for _ in range(count))


@pytest.mark.parametrize("name", ["cnn", "mlp(width=8)"])
def test_networks_run_at_once_where_torch_has_threads_for_them(name: str) -> None:
    met = threading.Barrier(2)

    def waiting(number: int) -> tuple[int, int]:
        met.wait(timeout=10)  # an error unless the other one comes, too
        return threading.get_ident(), torch.get_num_threads()

    with threads(2), side_by_side(networks(name), CPU) as each:
        (first, _), (second, its_threads) = each(waiting)
    assert first == threading.get_ident() != second and its_threads == 1


@pytest.mark.parametrize(
    ("name", "count", "available"), [("cnn", 2, 1), ("cnn", 1, 2), ("mobilenet_v3_small", 2, 2)]
)
def test_networks_run_in_turn_without_threads_or_where_they_may_draw(
    name: str, count: int, available: int
) -> None:
    order: list[int] = []

    def noted(number: int) -> int:
        order.append(number)
        return threading.get_ident()

    with threads(available), side_by_side(networks(name, count), CPU) as each:
        assert each(noted) == [threading.get_ident()] * count
    assert order == list(range(count))


@pytest.mark.parametrize("failing", [0, 1])
def test_a_network_that_fails_is_heard(failing: int) -> None:
    def one(number: int) -> int:
        if number == failing:
            raise ValueError("this one")
        return number

    with (
        threads(2),
        pytest.raises(ValueError, match="this one"),
        side_by_side(networks("cnn"), CPU) as each,
    ):
        each(one)


def records(n: int, classes: int) -> Records:
    draw = np.random.default_rng(0)
    labels = np.arange(n) % classes
    images = draw.integers(0, 256, (n, 1, 28, 28), dtype=np.uint8)
    return Records(images, labels.astype(np.int64), tuple(f"class {k}" for k in range(classes)))


@pytest.mark.parametrize(
    "options",
    [{}, {"networks": 1}, {"attention": "cbam"}, {"mutual_weight": 0.0}, {"head": "linear"}],
    ids=lambda options: "-".join(options) or "usual",
)
def test_training_and_gradients_have_the_same_bits_on_any_number_of_threads(
    options: dict[str, object],
) -> None:
    seen = records(70, 3)
    found = []
    for count in (1, 2):
        learner = MutualLearner(LearnerSpec(backbone=PluginSpec.parse("cnn"), **options), 3, 1, (28, 28))  # type: ignore[arg-type]
        start = learner.initial()
        with threads(count):
            fitted = learner.fit(start, seen, round=2, client=1, lr=0.01)
            halves = [(seen.images[half], seen.labels[half]) for half in (slice(0, 35), slice(35, 70))]
            gradient = np.stack(learner.gradients(fitted.state, halves))
        found.append((fitted.state.parameters, fitted.state.buffers, gradient, fitted.report.values))
    for one, two in zip(*(parts[:3] for parts in found), strict=True):
        np.testing.assert_array_equal(one, two)
    assert found[0][3] == found[1][3]
    assert np.any(found[0][2]) and not np.array_equal(found[0][0], start.parameters)

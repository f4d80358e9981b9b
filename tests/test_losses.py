"""The supervised losses against their definitions in float64, and what Rect does to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedrobust.learners.losses import CrossEntropy, DotRegression, loss_of
from fedrobust.learners.rect import rect_shift
from fedrobust.learners.spec import LearnerSpec

COUNTS = torch.tensor([40, 6, 0, 1])


def scores(n: int = 12) -> tuple[Tensor, Tensor]:
    """Return cosines with four classes, and labels."""
    source = torch.Generator().manual_seed(3)
    made = 2 * torch.rand(n, 4, generator=source) - 1
    return made, torch.randint(0, 4, (n,), generator=source)


def defined(values: Tensor, labels: Tensor, temperature: float, counts: Any = None) -> np.ndarray:
    """Return -log(n_y exp(s_y / T) / sum_k n_k exp(s_k / T)) in float64, n_k at least 1."""
    powers = np.exp(values.double().numpy() / temperature)
    if counts is not None:
        powers *= np.maximum(counts.numpy(), 1)
    return np.asarray(-np.log(powers[np.arange(len(labels)), labels.numpy()] / powers.sum(1)))


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_cross_entropy_is_its_definition(temperature: float) -> None:
    values, labels = scores()
    plain, rect = CrossEntropy(temperature, rect=False), CrossEntropy(temperature, rect=True)
    wanted = defined(values, labels, temperature)
    for found in (
        plain.each(values, labels),
        rect.each(values, labels),
        plain.trained(values, labels, COUNTS),
    ):
        np.testing.assert_allclose(found.numpy(), wanted, rtol=2e-5)
    shifted = rect.trained(values, labels, COUNTS)
    np.testing.assert_allclose(shifted.numpy(), defined(values, labels, temperature, COUNTS), rtol=2e-5)
    assert (shifted.numpy() - wanted).max() > 0.1


@pytest.mark.parametrize("each", [1, 7, 300])
def test_equal_counts_leave_cross_entropy_as_it_is(each: int) -> None:
    values, labels = scores()
    loss = CrossEntropy(0.2, rect=True)
    found = loss.trained(values, labels, torch.full((4,), each))
    np.testing.assert_allclose(found.numpy(), loss.each(values, labels).numpy(), rtol=1e-5, atol=1e-6)


def test_the_shift_is_rects_lengths_in_the_exponent() -> None:
    counts = torch.tensor([40, 6, 3, 1])
    lengths = np.sqrt(counts.sum().item() / 4 / counts.numpy())
    difference = rect_shift(counts).numpy() + 2 * np.log(lengths)
    np.testing.assert_allclose(difference, difference[0], rtol=1e-6)
    # A class without images counts as one with a single image.
    assert torch.equal(rect_shift(COUNTS), rect_shift(COUNTS.clamp(min=1)))


def test_rect_pulls_harder_towards_rare_classes_and_pushes_off_common_ones() -> None:
    gradients = []
    for rect in (False, True):
        values = torch.zeros(2, 4, requires_grad=True)
        # One record of the commonest class, one of the rarest, without any opinion yet.
        loss = CrossEntropy(0.2, rect).trained(values, torch.tensor([0, 3]), COUNTS)
        loss.sum().backward()
        assert values.grad is not None
        gradients.append(values.grad.numpy())
    plain, rect_ed = gradients
    np.testing.assert_allclose(np.concatenate(gradients).sum(1), 0, atol=1e-6)
    assert abs(rect_ed[0, 0]) < 0.5 * abs(plain[0, 0]) and abs(rect_ed[1, 3]) > 1.2 * abs(plain[1, 3])
    # The rare record pushes the commonest class away most, the other rare ones hardly.
    assert rect_ed[1, 0] > 2 * plain[1, 0] and 0 < rect_ed[1, 1] < plain[1, 1]


def test_dot_regression_has_its_weight_and_the_batch_for_rect() -> None:
    values, labels = scores()
    own = values.double().numpy()[np.arange(len(labels)), labels.numpy()]
    loss = DotRegression(1.0, rect=True, weight=10.0)
    np.testing.assert_allclose(loss.each(values, labels).numpy(), 5 * (own - 1) ** 2, rtol=1e-5)
    present = np.bincount(labels.numpy(), minlength=4)
    weight = len(labels) / ((present > 0).sum() * present[labels.numpy()])
    found = loss.trained(values, labels, COUNTS).numpy()
    np.testing.assert_allclose(found, 5 * weight * (own - 1) ** 2, rtol=1e-5)
    without = DotRegression(1.0, rect=False, weight=10.0)
    assert torch.equal(without.trained(values, labels, COUNTS), loss.each(values, labels))


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, CrossEntropy(0.2, rect=True)),
        ({"head": "etf", "temperature": 0.5}, CrossEntropy(0.5, rect=False)),
        ({"loss": "dot-regression"}, DotRegression(1.0, rect=True, weight=10.0)),
        ({"head": "etf", "loss": "dot-regression", "dr_weight": 3.0}, DotRegression(1.0, False, 3.0)),
        ({"head": "linear", "loss": "dot-regression"}, CrossEntropy(1.0, rect=False)),
        ({"head": "linear-rect", "temperature": 0.5}, CrossEntropy(1.0, rect=True)),
    ],
)
def test_heads_and_losses(options: dict[str, Any], wanted: object) -> None:
    assert loss_of(LearnerSpec(**options)) == wanted


def test_each_loss_has_its_own_weight_of_mutual_learning() -> None:
    assert (LearnerSpec().kl_weight, LearnerSpec(loss="dot-regression").kl_weight) == (0.3, 1.0)
    assert LearnerSpec(mutual_weight=0.0).kl_weight == 0

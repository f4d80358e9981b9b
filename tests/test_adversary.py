"""Attacks on training images: in their ball, and harmful to the loss that they climb."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

from fedrobust.learners.adversary import attacked
from fedrobust.learners.choices import Noise, Perturbation

IMAGES = torch.rand(8, 1, 6, 6, generator=torch.Generator().manual_seed(0))
DIRECTION = torch.randn(1, 6, 6, generator=torch.Generator().manual_seed(1))


def linear(images: Tensor, count: int) -> Tensor:
    assert len(images) == count
    return (images * DIRECTION).sum()


def test_one_step_by_the_sign_is_the_worst_for_a_linear_loss() -> None:
    how = Perturbation(8.0, 1, step=8.0, random_start=False)
    expected = (IMAGES + 8 / 255 * DIRECTION.sign()).clamp(0, 1)
    torch.testing.assert_close(attacked(IMAGES, how, linear), expected)
    # Many steps arrive there, too.
    torch.testing.assert_close(attacked(IMAGES, Perturbation(8.0, 20), linear), expected)


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_a_perturbation_stays_in_its_ball_and_raises_the_loss(norm: Literal["inf", "2"]) -> None:
    for eps in (0.0, 2.0, 16.0):
        changed = attacked(IMAGES, Perturbation(eps, 5, norm=norm), linear)
        change = (changed - IMAGES).flatten(1)
        size = change.abs().amax(1) if norm == "inf" else change.norm(dim=1)
        assert (size <= eps / 255 + 1e-6).all() and changed.min() >= 0 and changed.max() <= 1
        assert (linear(changed, 8) > linear(IMAGES, 8)) == (eps > 0)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(changed, IMAGES)


def test_noise_and_shares() -> None:
    changed = attacked(IMAGES, Noise(0.1, share=0.25), linear)
    assert not torch.equal(changed[:2], IMAGES[:2]) and torch.equal(changed[2:], IMAGES[2:])
    half = attacked(IMAGES, Perturbation(8.0, 2, share=0.5), linear)
    assert not torch.equal(half[:4], IMAGES[:4]) and torch.equal(half[4:], IMAGES[4:])

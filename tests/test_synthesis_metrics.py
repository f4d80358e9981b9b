"""Distances of synthetic from real images, against plain definitions and torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from fedrobust.evaluation.synthesis import (
    class_score,
    frechet_distance,
    kernel_distance,
    precision_recall,
    recognised,
)
from fedrobust.learners.backbones import torchvision_models

RNG = np.random.default_rng(4)
REAL, MADE = RNG.normal(0, 1, (90, 6)), RNG.normal(0.3, 1.4, (70, 6))


def test_frechet_distance_is_that_of_the_definition() -> None:
    first, second = np.cov(REAL, rowvar=False), np.cov(MADE, rowvar=False)
    shift = REAL.mean(axis=0) - MADE.mean(axis=0)
    root = scipy.linalg.sqrtm(first @ second).real
    expected = shift @ shift + np.trace(first + second - 2 * root)
    assert frechet_distance(REAL, MADE) == pytest.approx(expected, rel=1e-10)


def test_frechet_distance_of_a_set_from_itself_is_0_and_needs_two_images() -> None:
    assert frechet_distance(REAL, REAL) == pytest.approx(0, abs=1e-9)
    assert np.isnan(frechet_distance(REAL, MADE[:1])) and np.isnan(kernel_distance(REAL, MADE[:1]))
    # Fewer images than features: the covariances have no full rank.
    few = REAL[:4]
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-6)


def test_kernel_distance_is_that_of_the_definition() -> None:
    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 6 + 1) ** 3)

    within = [
        np.mean([kernel(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j])
        for s in (REAL, MADE)
    ]
    across = np.mean([kernel(x, y) for x in REAL for y in MADE])
    assert kernel_distance(REAL, MADE) == pytest.approx(sum(within) - 2 * across, rel=1e-10)


class Flat(torch.nn.Module):
    """Takes an image's pixels for its features."""

    num_features = 6

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)


def test_both_distances_are_those_of_torchmetrics() -> None:
    torchvision_models()  # torchmetrics imports torchvision, which fails by itself beside a CPU-only torch
    fids = pytest.importorskip("torchmetrics.image.fid")
    kids = pytest.importorskip("torchmetrics.image.kid")
    sets = {real: torch.tensor(s).view(-1, 1, 2, 3) for real, s in ((True, REAL), (False, MADE))}
    fid = fids.FrechetInceptionDistance(feature=Flat(), normalize=False).set_dtype(torch.float64)
    kid = kids.KernelInceptionDistance(feature=Flat(), subsets=1, subset_size=70)
    for real, images in sets.items():
        fid.update(images, real=real)
        kid.update(images[:70], real=real)
    assert frechet_distance(REAL, MADE) == pytest.approx(float(fid.compute()), rel=1e-6)
    assert kernel_distance(REAL[:70], MADE) == pytest.approx(float(kid.compute()[0]), rel=1e-6)


def test_precision_and_recall_tell_collapse_from_invention() -> None:
    assert precision_recall(REAL, REAL) == (1.0, 1.0)
    # All images at one place among the real ones: each is real enough, and they cover next to nothing.
    precision, recall = precision_recall(REAL, REAL[:1] + 1e-3 * RNG.normal(size=(70, 6)))
    assert precision == 1.0 and recall < 0.05
    assert precision_recall(REAL, MADE + 100) == (0.0, 0.0)
    assert all(np.isnan(value) for value in precision_recall(REAL, MADE[:3]))


def test_the_class_score_is_that_of_the_definition() -> None:
    p = RNG.dirichlet(np.ones(4), 50)
    expected = np.exp(np.mean([np.sum(row * np.log(row / p.mean(axis=0))) for row in p]))
    assert class_score(p) == pytest.approx(expected, rel=1e-12)
    assert class_score(np.eye(4)[np.arange(8) % 4]) == pytest.approx(4)
    assert class_score(np.full((8, 4), 0.25)) == pytest.approx(1)


def test_rare_classes_count_as_much_as_common_ones() -> None:
    asked = np.array([0, 0, 0, 0, 2])
    assert recognised(np.array([0, 0, 0, 1, 1]), asked) == pytest.approx(0.375)

from __future__ import annotations

from collections import Counter
from math import sqrt

import numpy as np
import pytest
import torch

from fedrobust.learners.rect import rect_lengths

BATCHES = {
    "random": torch.randint(0, 6, (64,), generator=torch.Generator().manual_seed(0)).tolist(),
    "skewed": [0] * 29 + [1] * 2 + [5],
    "one class": [3] * 7,
    "one record": [2],
    "balanced": [0, 1, 2, 3, 4, 5] * 4,
}


@pytest.mark.parametrize("labels", BATCHES.values(), ids=BATCHES.keys())
def test_lengths_are_their_definition(labels: list[int]) -> None:
    counts = Counter(labels)
    gamma = len(labels) / len(counts)
    wanted = [sqrt(gamma / counts[label]) for label in labels]
    lengths = rect_lengths(torch.tensor(labels), 6)
    assert lengths.dtype == torch.float32
    np.testing.assert_allclose(lengths.numpy(), wanted, rtol=1e-6)


@pytest.mark.parametrize("labels", BATCHES.values(), ids=BATCHES.keys())
def test_squares_sum_to_the_batch_and_classes_weigh_alike(labels: list[int]) -> None:
    squares = rect_lengths(torch.tensor(labels), 6).double() ** 2
    assert squares.sum().item() == pytest.approx(len(labels), rel=1e-5)
    by_class = torch.zeros(6, dtype=torch.float64).index_add_(0, torch.tensor(labels), squares)
    present = sorted(set(labels))
    share = len(labels) / len(present)
    np.testing.assert_allclose(by_class[present].numpy(), share, rtol=1e-5)
    assert by_class.sum().item() == pytest.approx(by_class[present].sum().item())


def test_a_balanced_batch_has_unit_lengths() -> None:
    np.testing.assert_allclose(rect_lengths(torch.tensor(BATCHES["balanced"]), 6).numpy(), 1, rtol=1e-6)


def test_classes_outside_the_batch_change_nothing() -> None:
    labels = torch.tensor(BATCHES["skewed"])
    assert torch.equal(rect_lengths(labels, 6), rect_lengths(labels, 100))


def test_the_rarer_the_longer() -> None:
    lengths = rect_lengths(torch.tensor(BATCHES["skewed"]), 6)
    assert lengths[0] < 1 < lengths[29] < lengths[31]

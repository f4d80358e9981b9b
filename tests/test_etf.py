from __future__ import annotations

import numpy as np
import pytest
import torch

from fedrobust.errors import UserError
from fedrobust.learners.etf import dot_regression, simplex_etf

SHAPES = [(2, 1), (2, 2), (2, 64), (3, 2), (4, 3), (4, 4), (4, 64), (7, 9), (10, 9), (11, 512), (40, 39)]


@pytest.mark.parametrize(("classes", "dim"), SHAPES)
def test_columns_are_of_unit_length_and_equally_far_apart(classes: int, dim: int) -> None:
    frame = simplex_etf(classes, dim, seed=3)
    assert frame.shape == (dim, classes) and frame.dtype == torch.float32
    wanted = np.full((classes, classes), -1 / (classes - 1))
    np.fill_diagonal(wanted, 1)
    gram = frame.double().numpy().T @ frame.double().numpy()
    np.testing.assert_allclose(gram, wanted, atol=2e-6)


@pytest.mark.parametrize(("classes", "dim"), SHAPES)
def test_frame_follows_from_the_seed_alone(classes: int, dim: int) -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    first = simplex_etf(classes, dim, seed=0)
    torch.manual_seed(2)
    np.random.seed(2)
    assert torch.equal(first, simplex_etf(classes, dim, seed=0))


def test_other_seeds_turn_the_frame() -> None:
    frames = [simplex_etf(4, 16, seed) for seed in range(5)]
    for number, frame in enumerate(frames):
        for other in frames[:number]:
            assert (frame - other).abs().max() > 0.1


def test_frame_is_not_a_trainable_thing() -> None:
    assert not simplex_etf(3, 8, 0).requires_grad


@pytest.mark.parametrize(
    ("classes", "dim", "words"),
    [(1, 8, "at least 2 classes"), (0, 8, "at least 2"), (5, 3, "dimension 4 or more, got 3")],
)
def test_impossible_frames_are_refused(classes: int, dim: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        simplex_etf(classes, dim, 0)


def batch(n: int = 50, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return random cosines, labels and lengths."""
    source = torch.Generator().manual_seed(4)
    cosines = 2 * torch.rand(n, classes, generator=source) - 1
    labels = torch.randint(0, classes, (n,), generator=source)
    return cosines, labels, 0.3 + 2 * torch.rand(n, generator=source)


def test_dot_regression_is_its_definition() -> None:
    cosines, labels, lengths = batch()
    plain, weighted = [], []
    for row, label, length in zip(cosines.tolist(), labels.tolist(), lengths.tolist(), strict=True):
        plain.append(0.5 * (row[label] - 1) ** 2)
        weighted.append(0.5 * length**2 * (row[label] - 1) ** 2)
    assert dot_regression(cosines, labels).shape == (50,)
    np.testing.assert_allclose(dot_regression(cosines, labels).numpy(), plain, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(dot_regression(cosines, labels, lengths), weighted, rtol=1e-5, atol=1e-9)


def test_lengths_are_exact_weights_of_loss_and_gradient() -> None:
    cosines, labels, lengths = batch()
    plain, weighted = cosines.clone().requires_grad_(), cosines.clone().requires_grad_()
    without, with_lengths = dot_regression(plain, labels), dot_regression(weighted, labels, lengths)
    torch.testing.assert_close(with_lengths, lengths**2 * without)
    without.sum().backward()
    with_lengths.sum().backward()
    assert plain.grad is not None and weighted.grad is not None
    torch.testing.assert_close(weighted.grad, lengths[:, None] ** 2 * plain.grad)
    # The known mistake, 1/2 (r cos - 1)^2, is another loss: it forgets the target's own length.
    mistaken = 0.5 * (lengths * cosines.gather(1, labels[:, None])[:, 0] - 1) ** 2
    assert (with_lengths - mistaken).abs().max() > 0.1


def test_a_feature_on_its_column_has_no_loss_and_only_the_labels_cosine_counts() -> None:
    frame = simplex_etf(4, 8, 0)
    labels = torch.arange(4)
    cosines = frame.T @ frame
    assert dot_regression(cosines, labels).abs().max() < 1e-9
    cosines = cosines.clone().requires_grad_()
    dot_regression(cosines - 0.5, labels).sum().backward()
    assert cosines.grad is not None
    assert torch.equal(cosines.grad != 0, torch.eye(4, dtype=torch.bool))

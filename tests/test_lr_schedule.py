"""The schedule is torch's ReduceLROnPlateau, and patience counts rounds without any better loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedrobust.runtime.lr_schedule import Plateau


@pytest.mark.parametrize("seed", range(6))
def test_learning_rate_equals_torch_reduce_on_plateau(seed: int) -> None:
    draw = np.random.default_rng(seed)
    # Steps about as small as the threshold, long flats, and now and then a loss that is no number.
    losses = 2 + np.cumsum(draw.choice([0.0, -1e-4, -3e-4, 2e-4], 300, p=[0.7, 0.1, 0.1, 0.1]))
    losses[draw.integers(0, 300, 5)] = np.nan
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    peer = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser)
    ours = Plateau(0.5, patience=1000)
    rates = set()
    for loss in losses:
        peer.step(loss)
        ours.exhausted(float(loss))
        assert ours.lr == optimiser.param_groups[0]["lr"]
        rates.add(ours.lr)
    assert len(rates) > 2


def test_patience_counts_rounds_without_a_better_loss() -> None:
    plateau = Plateau(1.0, patience=3)
    ended = [plateau.exhausted(loss) for loss in (5.0, 6.0, 6.0, 4.99999, 5.0, 5.0, 5.0)]
    assert ended == [False, False, False, False, False, False, True]


def test_learning_rate_falls_after_ten_rounds_without_a_better_loss() -> None:
    plateau = Plateau(0.1, 14)
    assert not plateau.exhausted(1.0)
    for _ in range(10):
        assert plateau.lr == 0.1
        assert not plateau.exhausted(1.0)
    assert not plateau.exhausted(1.0)
    assert plateau.lr == pytest.approx(0.01)
    assert not plateau.exhausted(0.5)
    ends = [plateau.exhausted(0.5) for _ in range(14)]
    assert ends == [False] * 13 + [True]

from __future__ import annotations

import pytest
import torch
from torch import nn

from fedrobust.learners.choices import SGD, Adam
from fedrobust.learners.optimisers import Masked, optimiser_for


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_torchs(momentum: float) -> None:
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 50)) for _ in range(2))
    mine = optimiser_for(SGD(momentum), ours, 0.05, 0.01)
    reference = torch.optim.SGD([theirs], lr=0.05, momentum=momentum, weight_decay=0.01, fused=True)
    for step in range(5):
        for one in (ours, theirs):
            one.grad = torch.sin(torch.arange(50.0) + step)
        mine.step()
        reference.step()
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("choice", [Adam(), SGD(0.9)])
def test_masked_weights_are_zero_and_stay_zero_while_the_others_move_as_alone(choice: Adam | SGD) -> None:
    kept = torch.tensor([1.0, 0.0, 1.0, 0.0])
    masked, alone = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(2))
    with_mask = Masked(optimiser_for(choice, masked, 0.1, 0.01), masked, kept)
    without = optimiser_for(choice, alone, 0.1, 0.01)
    for step in range(4):
        gradient = torch.cos(torch.arange(4.0) + step)
        masked.grad, alone.grad = gradient.clone(), gradient[kept > 0].clone()
        with_mask.step()
        without.step()
    assert torch.equal(masked[kept > 0], alone) and not masked[kept == 0].any()

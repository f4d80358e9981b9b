"""Attention blocks: the papers' formulas, behind the stages of a network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fedrobust import UserError
from fedrobust.learners.attention import CBAM, SE, add_attention
from fedrobust.learners.backbones import build_backbone

MAPS = torch.randn(2, 8, 5, 5, generator=torch.Generator().manual_seed(0))


def test_blocks_are_the_papers_formulas() -> None:
    se, cbam = SE(8, 4), CBAM(8, 4)
    for n in range(2):
        weights = se.channels(torch.tensor([m.mean() for m in MAPS[n]])).sigmoid()
        for channel in range(8):
            torch.testing.assert_close(se(MAPS)[n, channel], MAPS[n, channel] * weights[channel])
        mean = cbam.channels(torch.tensor([m.mean() for m in MAPS[n]]))
        most = cbam.channels(torch.tensor([m.max() for m in MAPS[n]]))
        weighed = MAPS[n] * (mean + most).sigmoid()[:, None, None]
        places = cbam.places(torch.stack([weighed.mean(0), weighed.max(0).values])[None]).sigmoid()[0]
        torch.testing.assert_close(cbam(MAPS)[n], weighed * places, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["se", "cbam"])
def test_a_block_stands_behind_each_resolution_and_every_weight_learns(kind: str) -> None:
    torch.manual_seed(0)
    network = build_backbone("cnn", 1, 3, (16, 16))
    before = {id(p) for p in network.parameters()}
    add_attention(network, kind, 1, (16, 16))
    blocks = [path for path, m in network.named_modules() if isinstance(m, SE | CBAM)]
    assert blocks == ["features.2.1", "features.8.1"]
    assert before < {id(p) for p in network.parameters()}
    network(torch.rand(4, 1, 16, 16)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_a_block_of_a_residual_network_is_behind_whole_stages() -> None:
    network = build_backbone("resnet18", 1, 3, (32, 32))
    add_attention(network, "se", 1, (32, 32))
    blocks = [path for path, m in network.named_modules() if isinstance(m, SE)]
    assert blocks == [f"layer{number}.1" for number in (1, 2, 3, 4)]


def test_a_network_without_maps_is_refused() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with pytest.raises(UserError, match="choose another backbone, or --attention none"):
        add_attention(flat, "se", 1, (8, 8))

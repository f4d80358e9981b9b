"""Rows of docs/conformance.md on the rules that train on the server, and on elections by layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fedrobust.battery.inputs import ToyServer, a_round, deltas
from fedrobust.federation import Updates
from fedrobust.learners.backbones import SmallCNN, torchvision_models
from strategies.skymask import SkyMask

__all__ = ["server_rows"]

#: A step so small that no mask moves, as where a learner's masks get no gradient.
NO_STEP = 1e-30
#: A rate at which the battery's toy model learns its masks, and the authors' rate for small networks.
FITTING, AUTHORS = 1e3, 1e7


def server_rows() -> list[tuple[str, str, str]]:
    """Return the disagreements around SkyMask, Snowball and fine-pruning."""
    with_gradient, without, fast = (_kept(lr) for lr in (FITTING, NO_STEP, AUTHORS))
    names = list(torchvision_models().get_model("resnet18", weights=None).state_dict())
    matched = [name for name in names if "fc" in name or ("conv1" in name and name.endswith("weight"))]
    gap, spread = _autoencoder_gap()
    return [
        (
            "SkyMask's masks",
            (
                "paper, authors, fedrobust: learnt by their gradient; FL-Byz-Lib writes to `.data`, which "
                "has none, so that all stay equal"
            ),
            (
                f"of 3 attackers among 9 hospitals {with_gradient[0]} are kept with the gradient, "
                f"{without[0]} without"
            ),
        ),
        (
            "SkyMask's rate",
            "authors: 1e7, where nearly every step is clipped to 1; fedrobust: 1e5, as an option",
            (
                f"a toy model of 51 parameters: at 1e7 {fast[0]} of 3 attackers and {fast[1]} of 6 honest "
                f"hospitals are kept, at 1e3 {with_gradient[0]} and {with_gradient[1]}"
            ),
        ),
        (
            "Snowball's layers",
            (
                'fedrobust: the first and the last weight matrix; the authors\' code: what has "conv1" or '
                '"fc" in its name'
            ),
            f"of a ResNet-18 the names match {len(matched)} arrays, {len(matched) - 2} of them neither",
        ),
        (
            "Snowball's autoencoder",
            (
                "BackFed trains it on the logistic function of differences and scores the differences; "
                "fedrobust has a linear model of the differences"
            ),
            f"of differences of {spread:g} the two are {gap:.2f} apart, {gap / spread:.0f} times their size",
        ),
        (
            "Fine-pruning before a normalisation",
            "paper: a filter's weights become 0; fedrobust: the weights that read the neuron",
            (
                f"behind the GroupNorm of the default backbone {100 * _alive():.0f} % of the filters with "
                f"weights 0 are still active"
            ),
        ),
    ]


def _kept(lr: float) -> tuple[int, int]:
    """Return how many of 3 attackers and of 6 honest hospitals SkyMask keeps at a rate."""
    rule, server = SkyMask(lr=lr), ToyServer()
    rule.server = server
    kept = np.asarray(rule.weigh(_opposed(server)).weight) > 0
    return int(kept[:3].sum()), int(kept[3:].sum())


def _opposed(server: ToyServer) -> Updates:
    """Return nine hospitals that learn what the server does, under noise, the first three its opposite."""
    start = a_round(deltas(1))[0]
    learnt = server.trained(start.global_parameters, start.global_buffers, 1).delta
    rng = np.random.default_rng(0)
    noise = 0.2 * np.linalg.norm(learnt) / len(learnt) ** 0.5 * rng.standard_normal((9, len(learnt)))
    return a_round(learnt * np.where(np.arange(9) < 3, -1, 1)[:, None] + noise)


def _autoencoder_gap() -> tuple[float, float]:
    """Return how far the logistic function of small differences is from them, and their size."""
    spread = 0.01
    x: Any = spread * np.random.default_rng(0).standard_normal(10_000)
    return float(np.abs(1 / (1 + np.exp(-x)) - x).mean()), spread


def _alive() -> float:
    """Return the share of last filters that are active for some image though their weights are 0."""
    torch.manual_seed(0)
    features = SmallCNN(1, 4).eval().features
    assert isinstance(features, torch.nn.Sequential)
    # Up to the last convolution, it, and its normalisation and activation.
    before, convolution, after = features[:6], features[6], features[7:9]
    assert isinstance(convolution, torch.nn.Conv2d)
    with torch.no_grad():
        maps = convolution(before(torch.randn(32, 1, 28, 28)))
        alive = []
        for place in range(maps.shape[1]):
            silenced = maps.clone()
            silenced[:, place] = 0
            alive.append(bool((after(silenced)[:, place] > 0).any()))
    return float(np.mean(alive))

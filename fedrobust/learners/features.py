"""A network's last layer of weights, and the activations that enter it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

__all__ = ["entering", "last_layer"]


def last_layer(network: nn.Module) -> str:
    """Return the path of a network's last layer of weights, which is linear in all backbones."""
    paths: list[str] = [
        path for path, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    return paths[-1]


def entering(network: nn.Module, path: str, batches: Iterable[Tensor]) -> Tensor:
    """Return what batches of images put into a layer of a network, shape (n, inputs)."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].flatten(1).clone())

    with network.get_submodule(path).register_forward_pre_hook(keep):
        for batch in batches:
            network(batch)
    return torch.cat(seen)

"""A network's last layer, the activations that enter it, and a network as a function of its tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

__all__ = ["called", "entering", "last_layer"]


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


def called(network: nn.Module, tensors: Mapping[str, Tensor], prefix: str, images: Tensor) -> Tensor:
    """Return a network's outputs with tensors in place of its own, those whose names have a prefix."""
    own = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    outputs: Tensor = functional_call(network, own, (images,))
    return outputs

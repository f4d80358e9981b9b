"""Attention blocks behind the stages of any convolutional network."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from fedrobust.errors import UserError
from fedrobust.learners.backbones import replace_module

__all__ = ["CBAM", "SE", "add_attention"]

#: A block's hidden layer has a sixteenth of the channels (Hu et al. and Woo et al.), but a few at least.
_REDUCTION, _FEWEST = 16, 4

#: Smaller maps say nothing about places any more.
_SMALLEST_MAP = 2

#: Transformers: what looks like a map in them is none, or has its channels last.
_WITHOUT_MAPS = frozenset({"VisionTransformer", "SwinTransformer", "MaxVit"})

_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


class SE(nn.Module):
    """Squeeze and excitation: weights for the channels of a map, from their means.

    torchvision has one, whose import would take seconds in every process that trains the small network.

    Parameters
    ----------
    channels : int
    hidden : int
        Width of the layer between.

    References
    ----------
    Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, eqs. 2 to 4.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        """Build the layers."""
        super().__init__()
        self.channels = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def forward(self, maps: Tensor) -> Tensor:
        """Weigh maps, shape (n, channels, height, width)."""
        weights: Tensor = self.channels(maps.mean((2, 3))).sigmoid()
        return maps * weights[:, :, None, None]


class CBAM(nn.Module):
    """Convolutional block attention: weights for the channels, then for the places of a map.

    Parameters
    ----------
    channels : int
    hidden : int
        Width of the layer that the channels' means and maxima share.

    References
    ----------
    Woo et al., "CBAM: Convolutional Block Attention Module", ECCV 2018, eqs. 2 and 3.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        """Build the layers."""
        super().__init__()
        self.channels = nn.Sequential(
            nn.Linear(channels, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, channels, bias=False)
        )
        self.places = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Weigh maps, shape (n, channels, height, width)."""
        mean, most = maps.mean((2, 3)), maps.amax((2, 3))
        maps = maps * (self.channels(mean) + self.channels(most)).sigmoid()[:, :, None, None]
        seen = torch.cat([maps.mean(1, keepdim=True), maps.amax(1, keepdim=True)], 1)
        weighed: Tensor = maps * self.places(seen).sigmoid()
        return weighed


def add_attention(network: nn.Module, kind: str, channels: int, size: tuple[int, int]) -> None:
    """Put an attention block behind the last module of each resolution of a network, in place.

    Parameters
    ----------
    network : nn.Module
        Maps images to vectors.
    kind : "se" or "cbam"
    channels : int
        Of the images.
    size : tuple of int
        Height and width of the images.

    Raises
    ------
    UserError
        If the network has no stages of convolutions.
    """
    stages = _stages(network, channels, size)
    if not stages:
        raise UserError(
            f"--attention {kind} goes behind the convolutions of a network, and this backbone has no maps of "
            f"them; choose another backbone, or --attention none"
        )
    block_of = {"se": SE, "cbam": CBAM}[kind]
    # Inner modules first: behind an outer one's block their paths would be others.
    for path, width in sorted(stages.items(), key=lambda stage: -stage[0].count(".")):
        block = block_of(width, max(width // _REDUCTION, _FEWEST))
        replace_module(network, path, nn.Sequential(network.get_submodule(path), block))


def _stages(network: nn.Module, channels: int, size: tuple[int, int]) -> dict[str, int]:
    """Return the path of the last module of each resolution, and its channels.

    Blocks count as wholes: what stands within anything but a plain chain of modules is left alone.
    """
    last: dict[tuple[int, int], tuple[str, int]] = {}
    if any(type(module).__name__ in _WITHOUT_MAPS for module in network.modules()):
        return {}

    def watch(path: str) -> Callable[[nn.Module, object, object], None]:
        def seen(module: nn.Module, _: object, output: object) -> None:
            if isinstance(output, Tensor) and output.dim() == 4 and min(output.shape[2:]) >= _SMALLEST_MAP:
                last[(output.shape[2], output.shape[3])] = path, output.shape[1]

        return seen

    handles = [module.register_forward_hook(watch(path)) for path, module in _chained(network)]
    trained = network.training
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, channels, *size))
    finally:
        network.train(trained)
        for handle in handles:
            handle.remove()
    return dict(last.values())


def _chained(network: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules of a network, and of the plain chains in it, with their paths."""
    for name, module in network.named_children():
        if type(module) is nn.Sequential:
            yield from _chained(module, f"{path}{name}.")
        if not isinstance(module, _POOLS):
            yield path + name, module

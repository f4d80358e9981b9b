"""Feature extractors by name: a small GroupNorm CNN and torchvision's classification networks."""

from __future__ import annotations

import functools
import importlib
import sys
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from fedrobust.errors import UserError, nearest
from fedrobust.plugins import PluginSpec
from fedrobust.plugins.specs import with_first_option_named

__all__ = [
    "FeatureMLP",
    "SmallCNN",
    "backbone_names",
    "build_backbone",
    "replace_module",
    "torchvision_models",
]

#: Units of a hidden layer of `FeatureMLP`, at most.
MLP_WIDEST = 8192

#: Images up to this side get a stem that shrinks them less.
SMALL_IMAGE = 64


class SmallCNN(nn.Module):
    """Three convolutions with GroupNorm, a 4 x 4 grid of features and a linear layer; quick on a CPU.

    GroupNorm instead of BatchNorm, as averaging the running statistics of unlike hospitals is a disturbance
    of its own. The grid keeps where in the body a feature stands. The last layer is linear: features behind a
    ReLU lie in the positive orthant and cannot reach a frame's columns.

    Parameters
    ----------
    channels : int
        1 or 3.
    outputs : int
        Dimension of the output.
    width : int
        Channels of the first layer; a multiple of 4.
    """

    def __init__(self, channels: int, outputs: int, width: int = 16) -> None:
        """Build the layers."""
        super().__init__()
        widths = (channels, width, 2 * width, 4 * width)
        layers: list[nn.Module] = []
        for before, after, stride in zip(widths[:-1], widths[1:], (2, 2, 1), strict=True):
            layers += [
                nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
                nn.GroupNorm(4, after),
                nn.ReLU(inplace=True),
            ]
        self.features = nn.Sequential(*layers, GridPool(4), nn.Flatten())
        self.project = nn.Linear(16 * widths[-1], outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, channels, height, width) to vectors (n, outputs)."""
        vectors: Tensor = self.project(self.features(images))
        return vectors


class FeatureMLP(nn.Sequential):
    """Two hidden layers with LayerNorm, for rows of features, which have no neighbours to convolve.

    Parameters
    ----------
    inputs, outputs : int
        Numbers of features and of outputs.
    width : int
        Units of each hidden layer.
    """

    def __init__(self, inputs: int, outputs: int, width: int = 128) -> None:
        """Build the layers."""
        super().__init__(
            nn.Flatten(),
            nn.Linear(inputs, width),
            nn.LayerNorm(width),
            nn.ReLU(inplace=True),
            nn.Linear(width, width),
            nn.LayerNorm(width),
            nn.ReLU(inplace=True),
            nn.Linear(width, outputs),
        )


class GridPool(nn.AdaptiveAvgPool2d):
    """Adaptive average pooling, on CUDA as two matrix products.

    Where the cells of the grid overlap, torch's own gradient on CUDA adds them up in no fixed order, and two
    runs differ.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Average each cell: (n, channels, height, width) to (n, channels, side, side)."""
        if images.device.type == "cpu":
            return super().forward(images)
        assert isinstance(self.output_size, int)
        high, wide = (_cells(length, self.output_size, images.device) for length in images.shape[-2:])
        return high @ images @ wide.T


@functools.cache
def _cells(length: int, cells: int, device: torch.device) -> Tensor:
    """Return the matrix, shape (cells, length), that averages as adaptive pooling does."""
    matrix = torch.zeros(cells, length)
    for i in range(cells):
        start, stop = i * length // cells, -(-(i + 1) * length // cells)
        matrix[i, start:stop] = 1 / (stop - start)
    return matrix.to(device)


def torchvision_models() -> ModuleType:
    """Return `torchvision.models`, also where torchvision was built for CUDA and torch was not.

    PyPI's torchvision is linked to CUDA; beside a CPU-only torch its operators are missing and its import
    fails on ``torchvision::nms`` (pytorch/vision issue 9077). Classification networks need none of them, so
    declaring the missing names is enough.
    """
    try:
        return importlib.import_module("torchvision.models")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    for operator in ("nms", "qnms"):
        torch.library.define(
            f"torchvision::{operator}", "(Tensor boxes, Tensor scores, float threshold) -> Tensor"
        )
    return importlib.import_module("torchvision.models")


@functools.cache
def backbone_names() -> dict[str, str]:
    """Return the known backbones with a line each."""
    models = torchvision_models()
    names = {
        "cnn": "small GroupNorm CNN, quick on a CPU (the default)",
        "mlp": "two hidden layers of width=128, for features:FILE",
    }
    for name in models.list_models(module=models):
        # SqueezeNets end in a ReLU: their outputs are never negative and reach neither a frame nor free
        # logits.
        if name.startswith("squeezenet"):
            continue
        names[name] = "torchvision classification network, random weights"
    return names


def build_backbone(spec: str | PluginSpec, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
    """Return a network that maps images to vectors.

    Parameters
    ----------
    spec : str or PluginSpec
        ``cnn``, ``cnn(width=32)`` or the name of a torchvision classification network.
    channels : int
        1 (grey) or 3 (RGB).
    outputs : int
        Dimension of the output vector.
    size : tuple of int
        Height and width of the images.

    Returns
    -------
    nn.Module
        Initialised from torch's global generator.

    Raises
    ------
    UserError
        If the name is unknown or the network cannot take such images.
    """
    spec = PluginSpec.parse(spec)
    name, options = spec.name, with_first_option_named(spec.options, ["width"], "")
    if name == "cnn":
        width = options.pop("width", 16)
        if options or not isinstance(width, int) or width < 4 or width % 4:
            raise UserError(
                f"backbone '{spec.text}': cnn takes one option, width, a multiple of 4, such as cnn(width=32)"
            )
        return SmallCNN(channels, outputs, width)
    if name == "mlp":
        width = options.pop("width", 128)
        if options or type(width) is not int or not 1 <= width <= MLP_WIDEST:
            raise UserError(
                f"backbone '{spec.text}': mlp takes one option, width, from 1 to {MLP_WIDEST}, such as "
                f"mlp(width=256)"
            )
        return FeatureMLP(channels * size[0] * size[1], outputs, width)
    if name not in backbone_names():
        raise UserError(f"unknown backbone '{name}'; {nearest(name, backbone_names())}")
    if options:
        raise UserError(
            f"backbone '{spec.text}': torchvision networks take no options here; write just {name}"
        )
    return _from_torchvision(name, channels, outputs, size)


def _from_torchvision(name: str, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
    """Build a torchvision network for these images and try it on one."""
    special: dict[str, object] = {}
    if name in ("googlenet", "inception_v3"):
        special = {"aux_logits": False, "init_weights": True}
    if name.startswith("vit_"):
        special = {"image_size": size[0]}
    try:
        network: nn.Module = torchvision_models().get_model(
            name, weights=None, num_classes=outputs, **special
        )
        _adapt_stem(network, channels, small=max(size) <= SMALL_IMAGE)
        network.eval()
        with torch.no_grad():
            network(torch.zeros(1, channels, *size))
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"backbone '{name}' cannot take {size[0]}x{size[1]} images ({reason}); give a larger --image-size"
        ) from None
    return network.train()


def _adapt_stem(network: nn.Module, channels: int, *, small: bool) -> None:
    """Fit the stem to the channels at hand and, for small images, let it shrink them one halving less.

    A stem that halves twice, by convolution and pooling (ResNets, DenseNets), keeps the convolution's
    halving; one that halves once keeps the resolution. Undoing both halvings of a ResNet-18 costs three times
    the time on a CPU.
    """
    path, first = next((p, m) for p, m in network.named_modules() if isinstance(m, nn.Conv2d))
    # A vision transformer's first convolution cuts the patches: its stride is the patch size.
    shrink = small and first.stride != first.kernel_size
    modules = dict(network.named_modules())
    pools = [p for p in ("maxpool", "features.pool0") if isinstance(modules.get(p), nn.MaxPool2d)]
    if shrink or channels != first.in_channels:
        kept: tuple[Any, Any, Any] = (first.kernel_size, first.stride, first.padding)
        size, stride, padding = (3, 2 if pools else 1, 1) if shrink else kept
        bias = first.bias is not None
        fresh = nn.Conv2d(channels, first.out_channels, size, stride, padding, bias=bias)
        replace_module(network, path, fresh)
    for pool in pools if shrink else ():
        replace_module(network, pool, nn.Identity())


def replace_module(network: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module in another one's place."""
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, module)

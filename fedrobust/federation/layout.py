"""Where a model's layers lie in its flat vectors: names, shapes, kinds and places."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Kind", "Layer", "Layout"]

#: What a layer's numbers do: ``norm`` are the scales and shifts of a normalisation; ``mean``, ``variance``
#: and ``statistic`` (any other) are running statistics, which lie in the buffers.
Kind = Literal["weight", "bias", "norm", "mean", "variance", "statistic"]

Shape = tuple[int, ...]
Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """One array of a model within its flat vector.

    Attributes
    ----------
    name : str
        As in the model file, such as ``networks.0.features.0.weight``.
    shape : tuple of int
    kind : str
        See `Kind`.
    start : int
        Where it begins.
    """

    name: str
    shape: Shape
    kind: Kind
    start: int

    @property
    def part(self) -> slice:
        """Return its numbers' places, for `Updates.block`, `Updates.rows` and any flat vector."""
        return slice(self.start, self.start + math.prod(self.shape))

    def of(self, vector: Vector) -> Vector:
        """Return a view of its numbers in a flat vector, in the layer's shape."""
        return vector[self.part].reshape(self.shape)


@dataclass(frozen=True)
class Layout:
    """The layers of a model, in the order in which they lie.

    Attributes
    ----------
    parameters : tuple of Layer
        They cover the vector of trainable parameters.
    buffers : tuple of Layer
        They cover that of the running statistics.
    """

    parameters: tuple[Layer, ...] = ()
    buffers: tuple[Layer, ...] = ()

    @classmethod
    def of(cls, parameters: Mapping[str, Shape], buffers: Mapping[str, Shape]) -> Layout:
        """Return the layout of arrays that lie in this order; kinds follow from names and shapes."""
        return cls(_placed(parameters, _kind_of_parameter), _placed(buffers, _kind_of_buffer))

    @classmethod
    def whole(cls, parameters: int, buffers: int) -> Layout:
        """Return the layout of a model of which only the lengths are known: one layer of each sort."""
        return cls.of({"parameters": (parameters,)}, {"buffers": (buffers,)} if buffers else {})


def _placed(
    shapes: Mapping[str, Shape], kind_of: Callable[[str, Mapping[str, Shape]], Kind]
) -> tuple[Layer, ...]:
    placed: list[Layer] = []
    start = 0
    for name, shape in shapes.items():
        placed.append(Layer(name, tuple(shape), kind_of(name, shapes), start))
        start = placed[-1].part.stop
    return tuple(placed)


def _kind_of_parameter(name: str, shapes: Mapping[str, Shape]) -> Kind:
    if len(shapes) == 1 or len(shapes[name]) != 1:
        return "weight"
    # The scale of a normalisation has one dimension and is called weight; its shift is its neighbour.
    scale = f"{name.rpartition('.')[0]}.weight".removeprefix(".")
    return "norm" if len(shapes.get(scale, ())) == 1 else "bias"


def _kind_of_buffer(name: str, shapes: Mapping[str, Shape]) -> Kind:
    kinds: dict[str, Kind] = {"running_mean": "mean", "running_var": "variance"}
    return kinds.get(name.rpartition(".")[2], "statistic")

"""Named arrays of any model to two flat vectors, parameters and running statistics, and back."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from flwr.app import Array, ArrayRecord

from fedrobust.federation.layout import Layout
from fedrobust.federation.updates import ClientMetrics, Update, Vector
from fedrobust.flower.arrays import LazyArray, record_of

__all__ = ["SentModel", "fixed", "flat", "is_buffer", "is_float", "shapes_of", "to_arrays"]


def is_float(dtype: str) -> bool:
    """Tell whether an array's type, as Flower writes it, is floating: ``float32`` as well as ``>f4``."""
    try:
        return np.dtype(dtype).kind == "f"
    except TypeError:
        return False


def is_buffer(name: str, dtype: str) -> bool:
    """Tell running statistics and counters from trainable parameters, by an array's name and type."""
    return not is_float(dtype) or name.rpartition(".")[2] in (
        "buffers",
        "running_mean",
        "running_var",
        "num_batches_tracked",
    )


def flat(arrays: Mapping[str, Array], *, buffers: bool, like: Mapping[str, Array] | None = None) -> Vector:
    """Return the floating arrays of one kind as one vector of float32; a single array is not copied.

    Parameters
    ----------
    arrays : mapping of str to Array
        A model's, by name.
    buffers : bool
        The running statistics; else the trainable parameters.
    like : mapping of str to Array, optional
        Another model with the same names; its order and types decide what is taken and where it goes.
    """
    chosen = [
        arrays[name].numpy().reshape(-1)
        for name, array in (arrays if like is None else like).items()
        if is_float(array.dtype) and is_buffer(name, array.dtype) == buffers
    ]
    if len(chosen) == 1:
        return chosen[0].astype(np.float32, copy=False)
    return np.concatenate(chosen).astype(np.float32) if chosen else np.zeros(0, np.float32)


def fixed(vector: Vector) -> Vector:
    """Return a read-only view: the values are those that a node sent, or the server's own."""
    view = vector.view()
    view.flags.writeable = False
    return view


def to_arrays(parameters: Vector, buffers: Vector, like: ArrayRecord) -> ArrayRecord:
    """Cut flat vectors into arrays of the same names, shapes and types; counters stay as they are.

    The arrays are views where the type allows it: a change to one changes the vector.
    """
    offsets = {True: 0, False: 0}
    made: dict[str, Array] = {}
    for name, array in like.items():
        kind = is_buffer(name, array.dtype)
        if not is_float(array.dtype):
            made[name] = array
            continue
        count = int(np.prod(array.shape))
        source = buffers if kind else parameters
        piece = source[offsets[kind] : offsets[kind] + count]
        offsets[kind] += count
        made[name] = LazyArray(piece.reshape(tuple(array.shape)).astype(array.dtype, copy=False))
    return record_of(made)


def shapes_of(arrays: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    """Return each array's shape."""
    return {name: tuple(array.shape) for name, array in arrays.items()}


class SentModel:
    """The global model of a round, against which the replies are read.

    Parameters
    ----------
    arrays : ArrayRecord
        As they were sent.
    layout : Layout, optional
        Where the layers lie, for a model that travels as flat vectors. Not given: each array is a layer.
    """

    def __init__(self, arrays: ArrayRecord, layout: Layout | None = None) -> None:
        """Keep the arrays; vectors are made when they are needed."""
        self.arrays = arrays
        self._layout = layout
        self.shapes = shapes_of(arrays)

    @cached_property
    def parameters(self) -> Vector:
        """Return the trainable parameters, read-only, shape (d,)."""
        return fixed(flat(self.arrays, buffers=False))

    @cached_property
    def buffers(self) -> Vector:
        """Return the running statistics, read-only, shape (b,)."""
        return fixed(flat(self.arrays, buffers=True))

    @cached_property
    def layout(self) -> Layout:
        """Return where the layers lie in the two vectors."""
        if self._layout is not None:
            return self._layout
        floats = [(name, array) for name, array in self.arrays.items() if is_float(array.dtype)]
        parameters, buffers = (
            {name: tuple(a.shape) for name, a in floats if is_buffer(name, a.dtype) == kind}
            for kind in (False, True)
        )
        return Layout.of(parameters, buffers)

    def vectors(self, arrays: Mapping[str, Array]) -> tuple[Vector, Vector]:
        """Return the parameters and the running statistics of a reply's arrays, read-only."""
        parameters, buffers = (fixed(flat(arrays, buffers=kind, like=self.arrays)) for kind in (False, True))
        return parameters, buffers

    def update(
        self, node: int, parameters: Vector, buffers: Vector, metrics: ClientMetrics, round: int
    ) -> Update:
        """Return the update of a hospital that started from this model."""
        return Update(node, parameters, metrics, self.parameters, buffers, round, self.buffers, self.layout)

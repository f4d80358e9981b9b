"""Named arrays of any model to two flat vectors, parameters and running statistics, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord
from numpy.typing import NDArray

from fedrobust.federation.updates import ClientMetrics, Vector
from fedrobust.flower.arrays import LazyArray, record_of
from fedrobust.learners.base import State

__all__ = ["fixed", "flat", "is_buffer", "is_float", "pack", "report_of", "to_arrays", "unpack"]


def is_float(dtype: str) -> bool:
    """Tell whether an array's type, as Flower writes it, is a floating one: ``float32`` as well as ``>f4``."""
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
    """Return the floating arrays of one kind as one vector of float32; a single array is viewed, several are joined.

    Parameters
    ----------
    arrays : mapping of str to Array
        A model's, by name.
    buffers : bool
        The running statistics; else the trainable parameters.
    like : mapping of str to Array, optional
        Whose order and types decide, where another's arrays of the same names may differ in them.
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
    """Return a view that nobody can write to: the numbers are those that a node sent, or the server's own."""
    view = vector.view()
    view.flags.writeable = False
    return view


def to_arrays(parameters: Vector, buffers: Vector, like: ArrayRecord) -> ArrayRecord:
    """Cut flat vectors into arrays of the same names, shapes and types; counters stay as they are.

    The arrays are views where the type allows it: whoever changes one changes the vector.
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


def report_of(metrics: MetricRecord, key: str = "num-examples") -> ClientMetrics:
    """Return what a hospital's metrics say: the number of its images stands under the key, all else are values."""
    values: dict[str, float | tuple[float, ...]] = {
        name: tuple(float(v) for v in value) if isinstance(value, list) else float(value)
        for name, value in metrics.items()
        if name != key
    }
    examples: Any = metrics.get(key, 0)
    # Some apps weigh by a share, which is no whole number.
    return ClientMetrics(examples if examples % 1 else int(examples), values)


def pack(state: State) -> ArrayRecord:
    """Return a state as Flower arrays: one flat vector of parameters, one of running statistics where there are any."""
    arrays = {"parameters": LazyArray(state.parameters)}
    if len(state.buffers):
        arrays["buffers"] = LazyArray(state.buffers)
    return record_of(arrays)


def unpack(arrays: ArrayRecord) -> State:
    """Return what `pack` packed, as views that nobody can write to: the numbers may be the server's own."""
    buffers = arrays["buffers"].numpy() if "buffers" in arrays else np.zeros(0, np.float32)
    parameters = arrays["parameters"].numpy()
    return State(_read_only(parameters), _read_only(buffers))


def _read_only(values: NDArray[Any]) -> Vector:
    view: Vector = values.astype(np.float32, copy=False).view()
    view.flags.writeable = False
    return view

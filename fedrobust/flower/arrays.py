"""Flower arrays that are serialised only when their bytes are needed."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

__all__ = ["LazyArray", "record_of", "records_in"]

RecordT = TypeVar("RecordT", ArrayRecord, MetricRecord, ConfigRecord)


@functools.lru_cache(maxsize=64)
def _name(dtype: np.dtype[Any]) -> str:
    """Return a type's name, which NumPy takes long to write."""
    return str(dtype)


class LazyArray(Array):
    """An Array around an ndarray that is not copied; ``np.save`` runs when the bytes are needed.

    Parameters
    ----------
    values : ndarray
        Kept as it is: a change to it changes the Array.
    """

    def __init__(self, values: NDArray[Any]) -> None:
        """Keep the numbers."""
        about = {"dtype": _name(values.dtype), "shape": values.shape, "stype": "numpy.ndarray"}
        self.__dict__.update(about, _values=values)

    def numpy(self) -> NDArray[Any]:
        """Return the numbers themselves, not a copy."""
        values: NDArray[Any] = self.__dict__["_values"]
        return values

    @property
    def data(self) -> bytes:  # type: ignore[override]
        """Return the bytes that a plain Array holds."""
        buffer = io.BytesIO()
        np.save(buffer, self.numpy(), allow_pickle=False)
        return buffer.getvalue()

    def deflate(self) -> bytes:
        """Return what Flower sends over a network: that of a plain Array, whose class name is part of it."""
        return self._plain().deflate()

    def _plain(self) -> Array:
        return Array(self.dtype, self.shape, self.stype, self.data)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a plain Array, which needs nothing of this package to be read."""
        return Array, (self.dtype, self.shape, self.stype, self.data)


def record_of(arrays: Mapping[str, Array]) -> ArrayRecord:
    """Return an ArrayRecord of these very arrays; Flower's constructor makes plain ones of them."""
    record = ArrayRecord()
    for name, array in arrays.items():
        record[name] = array
    return record


def records_in(content: RecordDict, kind: type[RecordT]) -> dict[str, RecordT]:
    """Return the content's records of one kind by name.

    `RecordDict.array_records` and its kin do the same, but tie the arrays into a reference cycle: they would
    stay in memory until Python's collector happens to run, and a round's updates are large.
    """
    return {name: record for name, record in content.items() if isinstance(record, kind)}

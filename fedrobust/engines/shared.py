"""Flower arrays that travel between the processes of one machine without being copied into messages.

A message with a plain `Array` is serialised, sent and parsed again for each hospital. A `SharedArray` is an `Array` whose
numbers lie in a file, in shared memory where there is room; pickling it sends the file's name.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Message, RecordDict
from numpy.typing import NDArray

from fedrobust.arrays import LazyArray, record_of

__all__ = ["SharedArray", "discard", "shared"]


class SharedArray(LazyArray):
    """An Array whose numbers lie in a file that other processes map.

    Parameters
    ----------
    path : str
        A file with the raw numbers.
    dtype : str
    shape : tuple of int
    """

    def __init__(self, path: str, dtype: str, shape: tuple[int, ...]) -> None:
        """Map the file; who changes the numbers changes a private copy of them."""
        mapped: NDArray[Any] = np.memmap(path, dtype=dtype, mode="c", shape=shape)
        super().__init__(np.asarray(mapped))
        self.__dict__["path"] = path

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the file's name instead of the numbers."""
        return SharedArray, (self.__dict__["path"], self.dtype, self.shape)


def shared(message: Message, folder: Path, known: dict[int, ArrayRecord] | None = None) -> Message:
    """Return a message whose arrays lie in files; the given one if they do not fit there.

    Parameters
    ----------
    message : Message
    folder : Path
        Where the files go.
    known : dict, optional
        Records already written, by their ``id``: messages of a round share one record.
    """
    if not message.has_content() or not message.content.array_records:
        return message
    written = {} if known is None else known
    content = RecordDict(dict(message.content))
    try:
        for name, record in message.content.array_records.items():
            if id(record) not in written:
                written[id(record)] = record_of({key: _write(array, folder) for key, array in record.items()})
            content[name] = written[id(record)]
    except OSError:
        # No room left: the numbers travel in the message after all.
        return message
    copy = Message.__new__(Message)
    copy.__dict__.update(message.__dict__)
    copy.content = content
    return copy


def discard(message: Message) -> None:
    """Remove the names of a message's files; what is mapped stays until the last view is gone."""
    if not message.has_content():
        return
    for record in message.content.array_records.values():
        for array in record.values():
            if isinstance(array, SharedArray):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(array.__dict__["path"])


def _write(array: Array, folder: Path) -> Array:
    values = array.numpy()
    if values.size == 0:
        return array
    descriptor, path = tempfile.mkstemp(dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(np.ascontiguousarray(values).data)
    except OSError:
        os.unlink(path)
        raise
    return SharedArray(path, str(values.dtype), tuple(values.shape))

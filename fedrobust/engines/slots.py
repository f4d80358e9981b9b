"""Shared memory in slots: arrays that one process writes and another reads in place.

A slot is a section of a file in memory. The server's process owns all slots: it allocates one for each array
of a round and frees it when no array refers to it any more, so the same pages are used in every round and
memory does not grow. A slot is filled with ``pwrite``, which fails with an error instead of a bus error where
there is no room left.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Mapping", "Place", "Slots", "fill"]

#: Slots in a file: enough to keep files and mappings few for small models, and sparse where they stay empty.
_IN_A_FILE = 64


class Place(NamedTuple):
    """Where a slot lies: a file, the first byte, and how many bytes."""

    file: str
    start: int
    size: int


def fill(place: Place, values: NDArray[Any]) -> None:
    """Write an array into a slot.

    Raises
    ------
    OSError
        If there is no room left in memory.
    ValueError
        If the array is larger than the slot.
    """
    if values.nbytes > place.size:
        raise ValueError(f"{values.nbytes} bytes do not fit a slot of {place.size}")
    rest = memoryview(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    start = place.start
    descriptor = os.open(place.file, os.O_WRONLY)
    try:
        while rest:
            written = os.pwrite(descriptor, rest, start)
            rest, start = rest[written:], start + written
    finally:
        os.close(descriptor)


class Mapping:
    """A slots file in this process's memory.

    Parameters
    ----------
    file : str
    writeable : bool
    """

    def __init__(self, file: str, *, writeable: bool) -> None:
        """Map the whole file."""
        descriptor = os.open(file, os.O_RDWR if writeable else os.O_RDONLY)
        try:
            access = mmap.ACCESS_WRITE if writeable else mmap.ACCESS_READ
            self._memory = mmap.mmap(descriptor, 0, access=access)
        finally:
            os.close(descriptor)
        self._writeable = writeable
        self._address = np.frombuffer(self._memory, np.uint8).__array_interface__["data"][0]

    def array(
        self, start: int, dtype: str, shape: tuple[int, ...], after: Callable[[], None] | None = None
    ) -> tuple[NDArray[Any], weakref.ref[Any]]:
        """Return an array over a slot, and a reference that dies with the last array over it.

        Parameters
        ----------
        start : int
            The slot's first byte.
        dtype : str
            As NumPy's array interface writes it, such as ``"<f4"``.
        shape : tuple of int
        after : callable, optional
            Called when the last array over the slot is gone.
        """
        lease = _Lease()
        lease.mapping, lease.after = self, after
        lease.__array_interface__ = {
            "version": 3,
            "typestr": dtype,
            "shape": shape,
            "data": (self._address + start, not self._writeable),
        }
        return np.asarray(lease), weakref.ref(lease)


class _Lease:
    """Owns the view of a slot: NumPy keeps it alive as long as there is any array over these bytes."""

    mapping: Mapping
    after: Callable[[], None] | None
    __array_interface__: dict[str, object]

    def __del__(self) -> None:
        if self.after is not None:
            self.after()


class Slots:
    """All the slots of a pool, by size.

    Parameters
    ----------
    folder : Path
        Where their files go; its removal frees the memory once no array refers to it.

    Attributes
    ----------
    used_bytes : int
        Size of the slots in use.
    """

    def __init__(self, folder: Path) -> None:
        """Begin without a file."""
        self._folder = folder
        self._free: dict[int, list[Place]] = {}
        self._held: dict[int, set[Place]] = {}
        self._returned: list[Place] = []
        self.used_bytes = 0
        self._mappings: dict[str, Mapping] = {}

    def take(self, size: int) -> Place:
        """Return a free slot of `size` bytes or a little more; `OSError` if no file can be made."""
        rounded = max(1, -(-size // mmap.PAGESIZE)) * mmap.PAGESIZE
        free = self._free.setdefault(rounded, [])
        if not free:
            free.extend(self._more(rounded))
        self.used_bytes += rounded
        return free.pop()

    def release(self, places: Iterable[Place]) -> None:
        """Free slots; the last one freed is the next one taken, as its pages are in the cache."""
        for place in places:
            if any(place in held for held in self._held.values()):
                self._returned.append(place)
            else:
                self._free[place.size].append(place)
                self.used_bytes -= place.size

    def hold(self, reader: int, places: set[Place]) -> None:
        """Note which slots another process still uses; they stay in use until it releases them."""
        if places or reader in self._held:
            self._held[reader] = places
            returned, self._returned = self._returned, []
            self.release(returned)

    def view(self, place: Place, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return a writeable array over a slot, which is freed by itself when the array is gone."""

        def back() -> None:
            self.release((place,))

        return self._mappings[place.file].array(place.start, dtype, shape, back)[0]

    def _more(self, size: int) -> list[Place]:
        descriptor, name = tempfile.mkstemp(prefix="slots-", dir=self._folder)
        try:
            os.ftruncate(descriptor, size * _IN_A_FILE)
        finally:
            os.close(descriptor)
        self._mappings[name] = Mapping(name, writeable=True)
        return [Place(name, number * size, size) for number in reversed(range(_IN_A_FILE))]

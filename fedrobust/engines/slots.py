"""Shared memory in slots: arrays that one process writes and another reads in place.

A slot is a stretch of a file in memory. The server's process owns all slots: it hands one out for each array of a round and
takes it back when nobody looks at the array any more, so the same pages serve round after round and memory does not grow.
Whoever fills a slot does so with ``pwrite``: where the room runs out it gets an error instead of a bus error.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Place", "Slots", "fill", "look"]

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
    with _opened(place.file) as descriptor:
        while rest:
            written = os.pwrite(descriptor, rest, start)
            rest, start = rest[written:], start + written


@contextlib.contextmanager
def _opened(file: str) -> Any:
    descriptor = os.open(file, os.O_WRONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class _Lease:
    """Owns the view of a slot: NumPy keeps it alive as long as there is any array over these bytes."""

    def __init__(
        self, mapping: mmap.mmap, place: Place, dtype: str, shape: tuple[int, ...], writeable: bool
    ) -> None:
        self._mapping = mapping
        whole = np.frombuffer(mapping, np.uint8)
        address = whole.__array_interface__["data"][0] + place.start
        self.__array_interface__ = {
            "version": 3,
            "typestr": np.dtype(dtype).str,
            "shape": shape,
            "data": (address, not writeable),
        }


def look(
    mapping: mmap.mmap,
    place: Place,
    dtype: str,
    shape: tuple[int, ...],
    *,
    writeable: bool,
    after: Callable[[], None] | None = None,
) -> tuple[NDArray[Any], weakref.ref[Any]]:
    """Return an array over a slot, and a reference that dies with the last array over it.

    Parameters
    ----------
    mapping : mmap
        Of the slot's file.
    place : Place
    dtype : str
    shape : tuple of int
    writeable : bool
    after : callable, optional
        Called when the last array over the slot is gone.
    """
    lease = _Lease(mapping, place, dtype, shape, writeable)
    if after is not None:
        weakref.finalize(lease, after).atexit = False
    return np.asarray(lease), weakref.ref(lease)


class Slots:
    """All the slots of a pool, by size.

    Parameters
    ----------
    folder : Path
        Where their files go; its removal frees the memory once nobody looks at it.

    Attributes
    ----------
    lent_bytes : int
        Size of the slots that are not free.
    """

    def __init__(self, folder: Path) -> None:
        """Begin without a file."""
        self._folder = folder
        self._free: dict[int, list[Place]] = {}
        self._held: dict[int, set[Place]] = {}
        self._returned: list[Place] = []
        self.lent_bytes = 0
        self._mappings: dict[str, mmap.mmap] = {}

    def take(self, size: int) -> Place:
        """Return a free slot of `size` bytes or a little more; `OSError` if no file can be made."""
        rounded = max(1, -(-size // mmap.PAGESIZE)) * mmap.PAGESIZE
        free = self._free.setdefault(rounded, [])
        if not free:
            free.extend(self._more(rounded))
        self.lent_bytes += rounded
        return free.pop()

    def give(self, places: Iterable[Place]) -> None:
        """Take slots back; the last one given is the next one taken, as its pages are warm."""
        held = set().union(*self._held.values())
        for place in places:
            if place in held:
                self._returned.append(place)
            else:
                self._free[place.size].append(place)
                self.lent_bytes -= place.size

    def hold(self, reader: int, places: set[Place]) -> None:
        """Note which slots another process still looks at; they are not handed out until it lets go of them."""
        if places or reader in self._held:
            self._held[reader] = places
            returned, self._returned = self._returned, []
            self.give(returned)

    def view(self, place: Place, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return a writeable array over a slot, which comes back by itself when the array is gone."""

        def back() -> None:
            self.give([place])

        return look(self._mappings[place.file], place, dtype, shape, writeable=True, after=back)[0]

    def _more(self, size: int) -> list[Place]:
        descriptor, name = tempfile.mkstemp(prefix="slots-", dir=self._folder)
        try:
            os.ftruncate(descriptor, size * _IN_A_FILE)
            self._mappings[name] = mmap.mmap(descriptor, size * _IN_A_FILE)
        finally:
            os.close(descriptor)
        return [Place(name, number * size, size) for number in reversed(range(_IN_A_FILE))]

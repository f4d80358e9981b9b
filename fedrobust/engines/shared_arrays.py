"""Flower records whose arrays stay in shared memory while the rest of them is pickled.

A message with plain arrays is serialised, sent and parsed again for each hospital. A `SharedArray` is an
`Array` over a slot; pickling it sends the slot's place. So a round's parameters are written once for all
workers, and read where they lie.
"""

from __future__ import annotations

import copyreg
import pickle
import threading
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

from flwr.app import Array, ArrayRecord, RecordDict
from numpy.typing import NDArray

from fedrobust.engines.slots import Mapping, Place, Slots, fill
from fedrobust.flower.arrays import LazyArray, record_of, records_in

__all__ = ["SharedArray", "WorkerMemory", "broadcast", "dumps", "loads", "outgoing"]

#: Makes an array of this process from a slot's place, type and shape.
Viewer = Callable[[Place, str, tuple[int, ...]], NDArray[Any]]


class SharedArray(LazyArray):
    """An Array whose numbers lie in a slot.

    Parameters
    ----------
    place : Place
    values : ndarray
        The same numbers, as this process sees them.
    """

    def __init__(self, place: Place, values: NDArray[Any]) -> None:
        """Keep both."""
        super().__init__(values)
        self.__dict__["place"] = place


class _Pickler(pickle.Pickler):
    """Sends the place of a shared array instead of its numbers."""

    dispatch_table = copyreg.dispatch_table.copy()


def _place_of(array: SharedArray) -> tuple[Any, ...]:
    return _arrived, (array.__dict__["place"], array.numpy().dtype.str, array.shape)


_Pickler.dispatch_table[SharedArray] = _place_of

#: How the array at a place is seen, while `loads` is at work in a thread.
_here = threading.local()


def _arrived(place: Place, dtype: str, shape: tuple[int, ...]) -> SharedArray:
    return SharedArray(place, _here.viewer(place, dtype, shape))


def dumps(thing: Any) -> bytes:
    """Pickle anything, shared arrays as their places."""
    buffer = BytesIO()
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(thing)
    return buffer.getvalue()


def loads(data: bytes, viewer: Viewer) -> Any:
    """Read what `dumps` wrote in another process of the pool, the only source of these bytes."""
    _here.viewer = viewer
    try:
        return pickle.loads(data)
    finally:
        del _here.viewer


def broadcast(content: RecordDict, slots: Slots, known: dict[int, ArrayRecord]) -> RecordDict:
    """Return the content with its arrays written to slots; as it is where there is no room.

    Parameters
    ----------
    content : RecordDict
    slots : Slots
    known : dict
        Records already written, by their ``id``: the messages of a round share one record.
    """
    light = RecordDict(dict(content))
    for name, record in records_in(content, ArrayRecord).items():
        if id(record) not in known:
            try:
                known[id(record)] = record_of({key: _written(array, slots) for key, array in record.items()})
            except OSError:
                known[id(record)] = record
        light[name] = known[id(record)]
    return light


def _written(array: Array, slots: Slots) -> Array:
    values = array.numpy()
    if values.size == 0 or values.dtype.hasobject:
        return array
    place = slots.take(values.nbytes)
    shared = SharedArray(place, slots.view(place, values.dtype.str, tuple(values.shape)))
    fill(place, values)
    return shared


def outgoing(content: RecordDict, places: Sequence[Place]) -> tuple[RecordDict, list[Place]]:
    """Return a reply's content with its arrays in the slots reserved for it, and the slots that it uses.

    An array for which there is no slot, or no room in memory, stays in the message.
    """
    left = list(places)
    used: list[Place] = []
    light = RecordDict(dict(content))
    for name, record in records_in(content, ArrayRecord).items():
        arrays: dict[str, Array] = {}
        for key, array in record.items():
            values = array.numpy()
            place = min((p for p in left if p.size >= values.nbytes), key=lambda p: p.size, default=None)
            # The place that a received array came in is not the reply's.
            arrays[key] = LazyArray(values) if isinstance(array, SharedArray) else array
            if place is None or values.size == 0 or values.dtype.hasobject:
                continue
            try:
                fill(place, values)
            except OSError:
                continue
            left.remove(place)
            used.append(place)
            arrays[key] = SharedArray(place, values)
        light[name] = record_of(arrays)
    return light, used


class WorkerMemory:
    """A worker's view of the slots: read-only, with a record of the arrays that are still in use."""

    def __init__(self) -> None:
        """Map nothing yet."""
        self._mappings: dict[str, Mapping] = {}
        self._arrays: list[tuple[Place, Any]] = []

    def view(self, place: Place, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return a read-only array over a slot."""
        if place.file not in self._mappings:
            self._mappings[place.file] = Mapping(place.file, writeable=False)
        array, alive = self._mappings[place.file].array(place.start, dtype, shape)
        self._arrays.append((place, alive))
        return array

    def kept(self) -> set[Place]:
        """Return the slots that arrays of this process still refer to; they must not be written again."""
        self._arrays = [(place, alive) for place, alive in self._arrays if alive() is not None]
        return {place for place, _ in self._arrays}

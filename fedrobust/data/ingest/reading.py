"""One file of a source: its bytes are read, hashed and decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.ingest.decode import decode
from fedrobust.data.ingest.pixels import How, Undecodable

__all__ = ["Found", "Item", "read"]

#: Bytes of a file that is read at all.
MOST_FILE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Item:
    """One file to decode.

    Attributes
    ----------
    name : str
        Which file it is, among all.
    stamp : tuple of int
        Size and times: while they are the same, the bytes are.
    size : int
        Of the file, in bytes.
    content : callable, optional
        Returns its bytes; not given: those of the file at the path `name`.
    """

    name: str
    stamp: tuple[int, ...]
    size: int
    content: Callable[[], bytes] | None = None


@dataclass(frozen=True)
class Found:
    """What a file holds.

    Attributes
    ----------
    content : str
        The SHA-256 of its bytes, in hex; empty if they were not read.
    frames : tuple of int
        The number of the slice or frame of each image.
    fault : tuple of str or None
        Kind and sentence if it gives no image.
    lasts : bool
        As long as the file is the same; a fault of the machine's, such as a decoder that is not installed,
        does not.
    images : tuple of ndarray of uint8, shape (1 or 3, side, side)
    unchanged : bool
        The bytes are those of the given hash: they were not decoded again.
    """

    content: str
    frames: tuple[int, ...] = ()
    fault: tuple[str, str] | None = None
    lasts: bool = True
    images: tuple[NDArray[np.uint8], ...] = ()
    unchanged: bool = False


def read(item: Item, known: str, how: How) -> Found:
    """Return what a file holds; it is decoded unless `known` is the hash of its bytes."""
    if item.size > MOST_FILE_BYTES:
        what = f"the file has {item.size >> 20} MiB, more than {MOST_FILE_BYTES >> 20}"
        return Found("", fault=("large file", what))
    try:
        data = _bytes(item.name) if item.content is None else item.content()
    except OSError as error:
        what = f"the file cannot be read ({error.strerror})"
        return Found("", fault=("unreadable file", what), lasts=False)
    content = hashlib.sha256(data).hexdigest()
    if content == known:
        return Found(content, unchanged=True)
    try:
        decoded = decode(data, item.name, how)
    except Undecodable as error:
        lasts = "not installed" not in error.kind
        return Found(content if lasts else "", fault=(error.kind, str(error)), lasts=lasts)
    return Found(content, tuple(one.frame for one in decoded), images=tuple(one.pixels for one in decoded))


def _bytes(path: str) -> bytes:
    with open(path, "rb", buffering=0) as stream:
        return stream.read()

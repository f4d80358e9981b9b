"""Decoded images, kept on disk and memory-mapped, so that a source is decoded once.

An entry belongs to a list of files and a way to decode them. It states of each file its size, its times and
the SHA-256 of its bytes: a file with other times is read again, and decoded again where its bytes differ.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
import PIL
from numpy.typing import NDArray

from fedrobust.data.ingest.decode import DECODER
from fedrobust.data.ingest.pixels import How
from fedrobust.data.ingest.progress import Progress
from fedrobust.data.ingest.readers import readers
from fedrobust.data.ingest.reading import Found, Item
from fedrobust.data.scratch import CACHE_FOLDER, audits_folder, cache_folder
from fedrobust.disk.files import write_bytes
from fedrobust.errors import UserError

__all__ = ["Cached", "cache_entries", "cached_images", "clear_cache"]

#: Bytes of all entries; the environment variable `LIMIT` gives another number of gigabytes.
_MOST_CACHED = 20e9
LIMIT = "FEDROBUST_CACHE_GB"

#: Files that a thread reads before it hands over: a handover for each one would take as long as its checks.
_BATCH = 32

#: Bytes that are collected before they are written.
_BUFFER = 1 << 20

#: Batches that are decoded or wait, for each thread; so many images are in memory at most.
_AHEAD = 2

T = TypeVar("T")


@dataclass(frozen=True)
class Cached:
    """The images of some files.

    Attributes
    ----------
    images : ndarray of uint8, shape (n, 1 or 3, side, side)
        Memory-mapped and read-only.
    item : ndarray of int64, shape (n,)
        Which file each image comes from.
    frame : ndarray of int64, shape (n,)
        The number of its slice or frame.
    content : list of str
        The SHA-256 of each file's bytes, in hex.
    faults : dict of int to tuple of str
        Kind and sentence for each file that gives no image.
    """

    images: NDArray[np.uint8]
    item: NDArray[np.int64]
    frame: NDArray[np.int64]
    content: list[str]
    faults: dict[int, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class _Known:
    """What an entry states of one file."""

    stamp: tuple[int, ...]
    content: str
    frames: tuple[int, ...]
    fault: tuple[str, str] | None

    def as_json(self) -> list[Any]:
        return [self.stamp, self.content, self.frames, self.fault]

    @classmethod
    def of(cls, found: Sequence[Any]) -> _Known:
        stamp, content, frames, fault = found
        return cls(tuple(stamp), str(content), tuple(frames), tuple(fault) if fault else None)


def cached_images(items: Sequence[Item], how: How, source: str) -> Cached:
    """Return the images of some files, from the cache where it has them.

    Raises
    ------
    UserError
        If the cache cannot be written.
    """
    if not items:
        none = np.zeros(0, np.int64)
        return Cached(np.zeros((0, 1, how.side, how.side), np.uint8), none, none, [], {})
    named = json.dumps([DECODER, PIL.__version__, asdict(how), [item.name for item in items]])
    key = hashlib.sha256(named.encode()).hexdigest()[:32]
    folder = cache_folder() / "images"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _lock(folder / f"{key}.lock"):
            entry = _Entry(folder, key, how)
            entry.renew(items, source)
            _make_room(folder, keep=key)
            return entry.cached()
    except OSError as error:
        raise UserError(
            f"the cache of decoded images in {folder} cannot be written ({error.strerror}); free some room, "
            f"or name another folder in {CACHE_FOLDER}"
        ) from error


class _Entry:
    """One list of files, decoded in one way; used under its lock only."""

    def __init__(self, folder: Path, key: str, how: How) -> None:
        """Read what is there, if it is complete."""
        self._folder, self._how = folder, how
        self._about = folder / f"{key}.json"
        self._known: list[_Known] = []
        self._images = np.zeros((0, 1, how.side, how.side), np.uint8)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            about = json.loads(self._about.read_bytes())
            known = [_Known.of(found) for found in about["files"]]
            images = _mapped(folder / about["pixels"], int(about["channels"]), how.side)
            if len(images) == sum(len(one.frames) for one in known):
                self._known, self._images = known, images

    def renew(self, items: Sequence[Item], source: str) -> None:
        """Decode what has changed."""
        fresh = len(self._known) != len(items)
        if fresh:
            self._known = [_Known((), "", (), None)] * len(items)
        elif all(one.stamp == item.stamp for one, item in zip(self._known, items, strict=True)):
            os.utime(self._about)  # the least recently used entry goes first
            return
        pixels = f"{self._about.stem}.{secrets.token_hex(4)}.bin"
        try:
            known = self._written(self._folder / pixels, items, source)
        except BaseException:
            (self._folder / pixels).unlink(missing_ok=True)
            raise
        about = {
            "pixels": pixels,
            "channels": self._images.shape[1],
            "source": source,
            "files": [one.as_json() for one in known],
        }
        write_bytes(self._about, json.dumps(about).encode())
        self._known = known
        for old in self._folder.glob(f"{self._about.stem}.*.bin"):
            if old.name != pixels:
                old.unlink()

    def _written(self, path: Path, items: Sequence[Item], source: str) -> list[_Known]:
        """Write all images to a file, those of unchanged files from the entry; map it."""
        starts = np.cumsum([0, *(len(one.frames) for one in self._known)])
        before = self._images
        changed = [one.stamp != item.stamp for one, item in zip(self._known, items, strict=True)]

        def batch(numbers: Sequence[int]) -> list[tuple[_Known, Sequence[NDArray[np.uint8]]]]:
            wanted = [(items[number], self._known[number].content) for number in numbers if changed[number]]
            found = iter(files.read(wanted) if wanted else [])
            return [one(number, next(found) if changed[number] else None) for number in numbers]

        def one(number: int, found: Found | None) -> tuple[_Known, Sequence[NDArray[np.uint8]]]:
            old, stamp = self._known[number], items[number].stamp
            if found is not None and not found.unchanged:
                return _Known(
                    stamp if found.lasts else (), found.content, found.frames, found.fault
                ), found.images
            kept = [_narrow(image) for image in before[starts[number] : starts[number + 1]]]
            return _Known(stamp, old.content, old.frames, old.fault), kept

        known = []
        with (
            readers([item for item, new in zip(items, changed, strict=True) if new], self._how) as files,
            path.open("wb", buffering=_BUFFER) as stream,
            Progress(f"decoding {source}", len(items)) as progress,
        ):
            pixels = _Writer(stream, self._how.side)
            for about, images in _in_threads(batch, len(items), files.threads):
                known.append(about)
                for image in images:
                    pixels.add(image)
                progress.advance()
            stream.flush()
        self._images = _mapped(path, pixels.channels, self._how.side)
        return known

    def cached(self) -> Cached:
        """Return the images with what is known of them."""
        counts = [len(one.frames) for one in self._known]
        return Cached(
            self._images,
            np.repeat(np.arange(len(counts)), counts),
            np.array([number for one in self._known for number in one.frames], np.int64),
            [one.content for one in self._known],
            {number: one.fault for number, one in enumerate(self._known) if one.fault},
        )


class _Writer:
    """Appends images to a file; from the first one in colour on, all have three channels."""

    def __init__(self, stream: IO[bytes], side: int) -> None:
        self.channels = 1
        self._stream, self._side, self._count = stream, side, 0

    def add(self, image: NDArray[np.uint8]) -> None:
        if len(image) > self.channels:
            self._widen()
        if len(image) < self.channels:
            image = np.repeat(image, self.channels, axis=0)
        self._stream.write(np.ascontiguousarray(image).data)
        self._count += 1

    def _widen(self) -> None:
        """Repeat the one channel of all images so far."""
        self.channels = 3
        if not self._count:
            return
        self._stream.flush()
        path = Path(self._stream.name)
        wide = path.with_suffix(".wide")
        with wide.open("wb") as stream:
            for image in _mapped(path, 1, self._side):
                stream.write(np.repeat(image, 3, axis=0).data)
        with wide.open("rb") as stream:
            self._stream.seek(0)
            shutil.copyfileobj(stream, self._stream)
        wide.unlink()


def _narrow(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a grey image with one channel, which has three where another one was in colour."""
    return image[:1] if (image == image[:1]).all() else image


def _in_threads(function: Callable[[Sequence[int]], list[T]], count: int, threads: int) -> Iterator[T]:
    """Yield a function's results for 0 to count - 1, in order, at most a few batches at a time."""
    batches = (range(start, min(start + _BATCH, count)) for start in range(0, count, _BATCH))
    with ThreadPoolExecutor(threads) as pool:
        ahead = deque(pool.submit(function, numbers) for numbers in islice(batches, _AHEAD * threads))
        try:
            while ahead:
                done = ahead.popleft().result()
                ahead.extend(pool.submit(function, numbers) for numbers in islice(batches, 1))
                yield from done
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _mapped(path: Path, channels: int, side: int) -> NDArray[np.uint8]:
    size = path.stat().st_size
    if channels not in (1, 3) or size % (channels * side * side):
        raise ValueError("no whole number of images")
    shape = (size // (channels * side * side), channels, side, side)
    return np.memmap(path, np.uint8, "r", shape=shape) if size else np.zeros(shape, np.uint8)


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a file's lock: another process that decodes the same source is waited for."""
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def cache_entries() -> list[tuple[str, int]]:
    """Return each entry's source and bytes, the most recently used first."""
    entries = []
    for about in _by_use(cache_folder() / "images"):
        size = sum(file.stat().st_size for file in about.parent.glob(f"{about.stem}.*"))
        with contextlib.suppress(OSError, ValueError, KeyError):
            entries.append((str(json.loads(about.read_bytes())["source"]), size))
    return entries


def clear_cache() -> None:
    """Delete all entries, and what audits have found; images in use stay until they are released."""
    for folder in (cache_folder() / "images", audits_folder()):
        shutil.rmtree(folder, ignore_errors=True)


def _by_use(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json"), key=lambda about: about.stat().st_mtime, reverse=True)


def _make_room(folder: Path, keep: str) -> None:
    """Delete the least recently used entries beyond the size that all may have."""
    limit = _limit()
    for about in _by_use(folder):
        files = [file for file in folder.glob(f"{about.stem}.*") if file.suffix != ".lock"]
        limit -= sum(file.stat().st_size for file in files)
        if limit < 0 and about.stem != keep:
            for file in files:
                file.unlink(missing_ok=True)


def _limit() -> float:
    text = os.environ.get(LIMIT, "")
    try:
        return float(text) * 1e9 if text else _MOST_CACHED
    except ValueError:
        raise UserError(f"{LIMIT} is '{text}', but must be a number of gigabytes; change it") from None

"""What a file that settings name holds, for a run's hash."""

from __future__ import annotations

import functools
import hashlib
import os

__all__ = ["content_of"]


def content_of(path: str) -> str:
    """Return the checksum of a file's content; the path where there is no such file, as at a hospital."""
    try:
        about = os.stat(path)
        return _checksum(path, about.st_size, about.st_mtime_ns)
    except OSError:
        return path


@functools.lru_cache(maxsize=64)
def _checksum(path: str, size: int, changed: int) -> str:
    """Return a file's SHA-256; read again only when its size or time is another."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

"""Large arrays on disk: pages of a file are the system's to drop and read again, so memory stays small."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fedrobust.data.limits import gigabytes
from fedrobust.errors import UserError

__all__ = ["CACHE_FOLDER", "audits_folder", "cache_folder", "on_disk", "scratch_array", "scratch_folder"]

#: Names the folder of decoded images and of scratch arrays.
CACHE_FOLDER = "FEDROBUST_CACHE"

#: Bytes of an array from which it is kept on disk, if the images that it comes from are.
_LARGE = 1 << 20


def cache_folder() -> Path:
    """Return the folder that the environment names, or ``fedrobust`` in the user's cache folder."""
    if chosen := os.environ.get(CACHE_FOLDER):
        return Path(chosen).expanduser().absolute()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "fedrobust"


def audits_folder() -> Path:
    """Return the folder of what hospitals' audits have found; it may not be there yet."""
    return cache_folder() / "audits"


def scratch_folder() -> Path:
    """Return a folder for files that last as long as their process."""
    folder = cache_folder() / "scratch"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def on_disk(images: NDArray[np.generic], size: int) -> bool:
    """Tell whether so many bytes made from images belong on disk: many, of images that are there too."""
    return isinstance(images, np.memmap) and size >= _LARGE


def scratch_array(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[np.generic]:
    """Return an array over a file without a name, which ends with the array.

    Raises
    ------
    UserError
        If the disk has no room for it: writing to mapped pages would then kill the process.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    try:
        with tempfile.TemporaryFile(dir=scratch_folder()) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, dtype, "w+", shape=shape)
    except OSError as error:
        raise UserError(
            f"{gigabytes(size)} of images cannot be written to {cache_folder()} ({error.strerror}); free "
            f"some room, or name another folder in {CACHE_FOLDER}"
        ) from error

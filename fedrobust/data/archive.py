"""Arrays of an ``.npz`` file that may come from anybody.

Nothing in it is run, and no memory is taken before its headers have been held against what the file contains
and the machine has. NumPy's own reader believes a header: eight bytes of shape can ask for a petabyte.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from fedrobust.data.limits import gigabytes, largest_bytes
from fedrobust.errors import UserError

__all__ = ["read_arrays"]

#: What `numpy.savez` and `numpy.savez_compressed` write; other methods can grow a byte into megabytes.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_arrays(path: Path, keys: Collection[str]) -> dict[str, NDArray[Any]]:
    """Return those arrays of an ``.npz`` file that have one of these names.

    Raises
    ------
    UserError
        If the file is no ``.npz`` file, is damaged, holds pickled objects, or more than fits this machine.
    """
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is not a file; name one in MedMNIST's layout")
        with path.open("rb") as stream:
            if not zipfile.is_zipfile(stream):
                raise UserError(f"{path} is cut short or is no .npz file; copy or download it again")
            with zipfile.ZipFile(stream) as archive:
                members = _members(path, archive, keys)
                _check_sizes(path, archive, members)
                return {key: _read(archive, member) for key, member in members.items()}
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}); copy or download it again") from error


def _members(path: Path, archive: zipfile.ZipFile, keys: Collection[str]) -> dict[str, zipfile.ZipInfo]:
    """Return the archive's entries by key."""
    found: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        key = member.filename.removesuffix(".npy")
        if key not in keys or key == member.filename:
            continue
        if key in found:
            raise UserError(f"{path} holds {key} twice; save it again with numpy.savez")
        if member.compress_type not in _METHODS:
            raise UserError(
                f"{path}: {key} is compressed by a method that NumPy does not use; save it again with "
                f"numpy.savez_compressed"
            )
        found[key] = member
    return found


def _check_sizes(path: Path, archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]) -> None:
    """Refuse arrays that are not what their headers say, or more than this machine should hold."""
    total = 0
    for key, member in members.items():
        with archive.open(member) as stream:
            shape, dtype = _header(stream)
            contained = member.file_size - stream.tell()
        if dtype.hasobject:
            raise UserError(f"{path} holds pickled objects, which can run code; save plain arrays")
        if any(type(length) is not int or length < 0 for length in shape):
            raise UserError(f"{path}: {key} has the shape {shape!r}, which no array has; save it again")
        declared = math.prod(shape) * dtype.itemsize
        if declared != contained:
            raise UserError(
                f"{path}: {key} declares {declared:,} bytes, but has {contained:,}; copy or download the "
                f"file again"
            )
        total += declared
    if total > largest_bytes():
        raise UserError(
            f"{path} holds {gigabytes(total)} of arrays, more than the {gigabytes(largest_bytes())} that a "
            f"source may take of this machine's memory; save fewer or smaller images"
        )


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and type that an array's header states."""
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(stream)
    if version not in readers:
        raise ValueError(f"version {version} is not of plain arrays")
    shape, _, dtype = readers[version](stream)
    return shape, dtype


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as stream:
        return np.asarray(npy.read_array(stream, allow_pickle=False))

"""A folder's checksums, so that damage is noticed: ``SHA256SUMS``, which ``sha256sum -c`` reads too.

While a file of a finished folder is replaced, the list holds its old and its new checksum, so that a kill at
any moment leaves files that match.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path

from fedrobust.disk.files import open_regular, read_regular, write_bytes
from fedrobust.errors import UserError

__all__ = ["SUMS", "read_checked", "replace_checked", "write_sums"]

SUMS = "SHA256SUMS"

#: Made again whenever it is asked for, from files that are checked.
_PAGE = "report.html"

#: A file's name to its checksums: two while it is replaced.
_Sums = Mapping[str, frozenset[str]]


def write_sums(folder: Path, but: str = "") -> None:
    """Write the checksums of all files of a folder but its page, and but one that is to be deleted."""
    sums = {}
    for path in folder.iterdir():
        if path.is_file() and not path.is_symlink() and _is_listed(path.name) and path.name != but:
            with open_regular(path) as file:
                sums[path.name] = frozenset({hashlib.file_digest(file, "sha256").hexdigest()})
    _write(folder, sums)


def read_checked(path: Path) -> bytes:
    """Return a file's content.

    Raises
    ------
    UserError
        If it cannot be read, or its folder has a checksum of it that does not match.
    """
    content = read_regular(path)
    known = _read(path.parent).get(path.name)
    if known is not None and _sum(content) not in known:
        raise UserError(f"{path} is damaged: it does not match {SUMS} beside it; restore it, or run it again")
    return content


def replace_checked(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Replace files of a folder and their checksums.

    Raises
    ------
    OSError
        If a file cannot be written; all files match the checksums all the same.
    """
    before: dict[str, frozenset[str]] = {}
    with contextlib.suppress(UserError):  # A list that is damaged itself is made again.
        before |= _read(folder)
    after = before | {name: frozenset({_sum(content)}) for name, content in contents.items()}
    _write(folder, {name: before.get(name, frozenset()) | sums for name, sums in after.items()})
    for name, content in contents.items():
        write_bytes(folder / name, content)
    _write(folder, after)


def _is_listed(name: str) -> bool:
    return name not in (SUMS, _PAGE) and not name.startswith(".")


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read(folder: Path) -> _Sums:
    path = folder / SUMS
    if not path.exists():
        return {}
    found: dict[str, frozenset[str]] = {}
    for line in read_regular(path).decode(errors="replace").splitlines():
        checksum, _, name = line.partition("  ")
        if len(checksum) != 2 * hashlib.sha256().digest_size or not name:
            raise UserError(f"{path} is damaged: {line[:80]!r} is not a checksum; run it again")
        found[name] = found.get(name, frozenset()) | {checksum}
    return found


def _write(folder: Path, sums: _Sums) -> None:
    lines = [f"{checksum}  {name}\n" for name in sorted(sums) for checksum in sorted(sums[name])]
    write_bytes(folder / SUMS, "".join(lines).encode())

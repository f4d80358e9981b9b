"""Paths that a table names: each stays inside the source's folder, whatever it says and links lead to."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["BadPath", "Finder", "FoundFile"]


class BadPath(Exception):
    """A path that cannot be used, with the reason in words."""

    def __init__(self, kind: str, what: str) -> None:
        """Keep the kind of fault in short."""
        super().__init__(what)
        self.kind = kind


class FoundFile(NamedTuple):
    """A file that a path names: its path, as text since pathlib is slow with many, and its status."""

    path: str
    status: os.stat_result


class Finder:
    """Finds the files that paths name, inside some folders only.

    Parameters
    ----------
    folders : sequence of Path
        Relative paths start in the first; none may leave them all.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        """Resolve the folders once."""
        self._folders = [folder.resolve() for folder in folders]
        self._parents: dict[str, tuple[str, bool]] = {}

    def find(self, text: str) -> FoundFile:
        """Return the file of a path.

        Raises
        ------
        BadPath
            If it leaves the folders, or is no file that can be read.
        """
        if not text or "\0" in text:
            raise BadPath("no path", "the path is empty or has a character that no path has")
        try:
            return self._find(text)
        except OSError as error:
            raise BadPath("unreadable file", f"the file cannot be read ({error.strerror})") from None

    def _find(self, text: str) -> FoundFile:
        for candidate in _spellings(text):
            path = self._inside(candidate)
            try:
                status = os.lstat(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if stat.S_ISLNK(status.st_mode):
                path = os.path.realpath(path)
                if not self._holds(path):
                    raise BadPath("link out of the folder", f"a link that leads out of {self._home}")
                if not os.path.exists(path):
                    raise BadPath("missing file", "a link to a file that is not there")
                status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):
                raise BadPath("no file", "this is a folder or a device, not a file")
            return FoundFile(path, status)
        raise BadPath("missing file", f"there is no such file in {self._home}")

    @property
    def _home(self) -> str:
        return f"the folder {self._folders[0].name or self._folders[0]}"

    def _holds(self, path: str) -> bool:
        return any(Path(path).is_relative_to(folder) for folder in self._folders)

    def _inside(self, text: str) -> str:
        """Return a path with its folders resolved; nothing outside is looked at beyond that."""
        head, tail = os.path.split(text)
        if tail in ("", ".", ".."):
            head, tail = text, ""
        if head not in self._parents:  # resolving takes a while, and many files have the same parent
            parent = str((self._folders[0] / head).resolve())
            self._parents[head] = parent, self._holds(parent)
        parent, inside = self._parents[head]
        path = os.path.join(parent, tail) if tail else parent
        if not inside and not self._holds(path):
            if os.path.isabs(text):
                raise BadPath("absolute path outside", f"an absolute path outside {self._home}")
            raise BadPath("path out of the folder", f"the path climbs out of {self._home}")
        return path


def _spellings(text: str) -> Iterator[str]:
    """Yield how a path may be written on this system: other slashes, and letters composed or not."""
    yield text
    slashed = text.replace("\\", "/")
    yield slashed
    for form in ("NFC", "NFD"):
        yield unicodedata.normalize(form, slashed)

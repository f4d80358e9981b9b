"""Paths that a table names: each stays inside the source's folder, whatever it says and links lead to."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["BadPath", "Finder"]


class BadPath(Exception):
    """A path that cannot be used, with the reason in words."""

    def __init__(self, kind: str, what: str) -> None:
        """Keep the kind of fault in short."""
        super().__init__(what)
        self.kind = kind


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
        self._parents: dict[str, tuple[Path, bool]] = {}

    def find(self, text: str) -> Path:
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

    def _find(self, text: str) -> Path:
        for candidate in _spellings(text):
            path = self._inside(candidate)
            try:
                found = os.lstat(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if stat.S_ISLNK(found.st_mode):
                path = path.resolve()
                if not self._holds(path):
                    raise BadPath("link out of the folder", f"a link that leads out of {self._home}")
                if not path.exists():
                    raise BadPath("missing file", "a link to a file that is not there")
                found = os.stat(path)
            if not stat.S_ISREG(found.st_mode):
                raise BadPath("no file", "this is a folder or a device, not a file")
            return path
        raise BadPath("missing file", f"there is no such file in {self._home}")

    @property
    def _home(self) -> str:
        return f"the folder {self._folders[0].name or self._folders[0]}"

    def _holds(self, path: Path) -> bool:
        return any(path.is_relative_to(folder) for folder in self._folders)

    def _inside(self, text: str) -> Path:
        """Return a path with its folders resolved; nothing outside is looked at beyond that."""
        given = os.path.join(self._folders[0], text)
        head, tail = os.path.split(given)
        if tail in ("", ".", ".."):
            head, tail = given, ""
        if head not in self._parents:  # pathlib takes a while, and many files have the same parent
            parent = Path(head).resolve()
            self._parents[head] = parent, self._holds(parent)
        parent, inside = self._parents[head]
        path = parent / tail if tail else parent
        if not inside and not self._holds(path):
            if Path(text).is_absolute():
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

"""The memories of a run's participants between rounds, as files of its unfinished folder.

Whatever process or round a hospital trains in finds them there, and a resumed run too. Each owner has a
folder; a file's name is the round that it is the outcome of. The two latest stay: a run that is resumed
repeats the round that was cut off, and that round must find what it found the first time.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedrobust.disk.files import read_regular, write_bytes
from fedrobust.errors import UserError
from fedrobust.results.records import RoundLine

__all__ = ["MEMORY", "MemoryFolder"]

#: The folder's name in an unfinished run's folder; a finished run has none.
MEMORY = "memory"

#: Bytes of the checksum that a file begins with.
_SUM = hashlib.sha256().digest_size


@dataclass(frozen=True)
class MemoryFolder:
    """A `MemoryStore` in the folder of an unfinished run.

    Attributes
    ----------
    partial : Path
        The run's folder while it is unfinished.
    """

    partial: Path

    def read(self, owner: str, round: int) -> bytes:
        """Return what the owner kept last before a round."""
        before = [number for number in self._rounds(owner) if number < round]
        return self._checked(self._file(owner, max(before))) if before else b""

    def write(self, owner: str, round: int, content: bytes) -> None:
        """Keep what a round gave, and what the last round before gave.

        Raises
        ------
        UserError
            If the run's folder is not on this machine, or cannot be written.
        """
        if not self.partial.is_dir():
            raise UserError(
                f"{self.partial} is not on this machine, and what is kept between rounds lies there; put "
                f"--out on a disk that all machines of the Ray cluster share"
            )
        try:
            self._file(owner, round).parent.mkdir(parents=True, exist_ok=True)
            write_bytes(self._file(owner, round), hashlib.sha256(content).digest() + content)
        except OSError as error:
            raise UserError(f"{self.partial / MEMORY} cannot be written ({error.strerror})") from None
        before = [number for number in self._rounds(owner) if number < round]
        for number in sorted(before)[:-1]:
            with contextlib.suppress(OSError):
                self._file(owner, number).unlink()

    def check(self, rounds: Sequence[RoundLine]) -> None:
        """Refuse what a run cannot go on from after these rounds.

        Raises
        ------
        UserError
            If something is missing or damaged, or a link to elsewhere.
        """
        top, found = self.partial / MEMORY, 0
        _refuse_link(top)
        if not rounds:
            return
        last = rounds[-1]
        for owner in sorted(top.iterdir()) if top.is_dir() else ():
            for number in self._rounds(owner.name):
                length = len(self._checked(self._file(owner.name, number)))
                found += length if number == last.round else 0
        if found < (last.memory_bytes or 0) or (
            not top.is_dir() and any(line.memory_bytes for line in rounds)
        ):
            raise UserError(
                f"{top}, or a part of it, is gone, in which hospitals keep what they remember between "
                f"rounds; run without --resume"
            )

    def _checked(self, path: Path) -> bytes:
        """Return a file's content, which follows its checksum."""
        written = read_regular(path)
        if hashlib.sha256(written[_SUM:]).digest() != written[:_SUM]:
            raise UserError(f"{path} is damaged: it does not match its checksum; run without --resume")
        return written[_SUM:]

    def _file(self, owner: str, round: int) -> Path:
        return self._folder(owner) / str(round)

    def _folder(self, owner: str) -> Path:
        """Return an owner's folder; `UserError` if it or the one around it is a link to elsewhere."""
        folder = self.partial / MEMORY / owner
        _refuse_link(folder.parent)
        _refuse_link(folder)
        return folder

    def _rounds(self, owner: str) -> list[int]:
        """Return the rounds of which something is kept."""
        folder = self._folder(owner)
        if not folder.is_dir():
            return []
        return [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]


def _refuse_link(folder: Path) -> None:
    if folder.is_symlink():
        raise UserError(f"{folder} is a symbolic link, which is not followed; remove it")

"""The memories of a run's participants between rounds, as files of its unfinished folder.

Whatever process or round a hospital trains in finds them there, and a resumed run too. Each owner has a
folder; a file's name is the round that it is the outcome of. The two latest stay: a run that is resumed
repeats the round that was cut off, and that round must find what it found the first time.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from fedrobust.disk.files import read_regular, write_bytes
from fedrobust.errors import UserError

__all__ = ["MEMORY", "MemoryFolder"]

#: The folder's name in an unfinished run's folder; a finished run has none.
MEMORY = "memory"


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
        return read_regular(self._file(owner, max(before))) if before else b""

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
            write_bytes(self._file(owner, round), content)
        except OSError as error:
            raise UserError(f"{self.partial / MEMORY} cannot be written ({error.strerror})") from None
        before = [number for number in self._rounds(owner) if number < round]
        for number in sorted(before)[:-1]:
            with contextlib.suppress(OSError):
                self._file(owner, number).unlink()

    def _file(self, owner: str, round: int) -> Path:
        return self.partial / MEMORY / owner / str(round)

    def _rounds(self, owner: str) -> list[int]:
        """Return the rounds of which something is kept."""
        folder = self.partial / MEMORY / owner
        if not folder.is_dir():
            return []
        return [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]

"""The run folder: written beside its final place while the run lasts, and renamed when it is complete.

A folder ``<name>-seed<seed>-<hash>`` is always a finished run; one that ends in ``.partial`` is unfinished.
Running the same settings again replaces the folder only once the new run is complete.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedrobust.errors import UserError
from fedrobust.results.files import (
    append_line,
    read_lines,
    read_text,
    write_json,
    write_tensors,
    write_text,
)
from fedrobust.results.records import Record
from fedrobust.scenario import RunIdentity

__all__ = ["RunFolder"]

Line = TypeVar("Line", bound=Record)


class RunFolder:
    """One run's files, under `RunIdentity.out`.

    Parameters
    ----------
    run : RunIdentity
    resume : bool
        Keep the files of an earlier unfinished run.

    Raises
    ------
    UserError
        If the folder cannot be written, or another process is running the same settings there.
    """

    def __init__(self, run: RunIdentity, *, resume: bool = False) -> None:
        """Create the partial folder, emptied of an earlier unfinished run unless that is resumed."""
        self.final = run.folder
        self.partial = self.final.with_name(self.final.name + ".partial")
        try:
            self.partial.mkdir(parents=True, exist_ok=True)
            self._lock: IO[str] = (self.partial / ".lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{self.partial}: another process is running these settings; give another --out"
            ) from None
        except OSError as error:
            raise UserError(f"--out '{run.out}' cannot be written ({error.strerror}); give another") from None
        for file in () if resume else self.partial.iterdir():
            if file.name != ".lock":
                shutil.rmtree(file) if file.is_dir() else file.unlink()
        self.write_text("settings.toml", _toml(run))

    def write_text(self, name: str, text: str) -> None:
        """Write a text file of the folder."""
        write_text(self.partial / name, text)

    def write_json(self, name: str, content: object) -> None:
        """Write a JSON file of the folder, indented."""
        write_json(self.partial / name, content)

    def append(self, name: str, line: object) -> None:
        """Add one line to a ``.jsonl`` file of the folder."""
        append_line(self.partial / name, line)

    def keep_lines(self, name: str, rounds: int, model: type[Line]) -> list[Line]:
        """Cut a ``.jsonl`` file to the lines of the first rounds, and return them as records."""
        path = self.partial / name
        lines = read_text(path).splitlines(keepends=True)[:rounds] if path.exists() else []
        if len(lines) < rounds:
            raise ValueError(f"{name} has {len(lines)} lines for {rounds} rounds")
        self.write_text(name, "".join(lines))
        return list(read_lines(path, model))

    def write_model(self, tensors: Mapping[str, NDArray[np.float32]], about: object) -> None:
        """Write model.safetensors with a JSON description in its metadata."""
        self.write_tensors("model.safetensors", tensors, about)

    def write_tensors(self, name: str, tensors: Mapping[str, NDArray[Any]], about: object) -> None:
        """Write a safetensors file of the folder, the same bytes for the same content."""
        write_tensors(self.partial / name, tensors, about)

    def finish(self) -> Path:
        """Put the complete run in its final place; an older one of the same settings is deleted."""
        for passing in (".lock", "checkpoint.safetensors"):
            (self.partial / passing).unlink(missing_ok=True)
        old = self.final.with_name(self.final.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            os.replace(self.final, old)
        os.replace(self.partial, self.final)
        shutil.rmtree(old, ignore_errors=True)
        self._lock.close()
        return self.final

    def release(self) -> None:
        """Release an unfinished run and keep its files."""
        if not self._lock.closed:
            (self.partial / ".lock").unlink(missing_ok=True)
            self._lock.close()


def _toml(run: RunIdentity) -> str:
    import tomli_w

    return tomli_w.dumps({k.replace("_", "-"): v for k, v in run.written.items() if v is not None})

"""The run folder: written beside its final place while the run lasts, and renamed when it is complete.

A folder ``<name>-seed<seed>-<hash>`` is always a finished run; one that ends in ``.partial`` is unfinished.
Running the same settings again replaces the folder only once the new run is complete.

A run is complete once its checksums are written. What is left to do then, some renames, `recover` does if a
kill prevents it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedrobust.disk.files import append_bytes, read_regular, sweep_asides, write_bytes
from fedrobust.disk.lock import Held, Lock
from fedrobust.errors import UserError
from fedrobust.results.checksums import SUMS, write_sums
from fedrobust.results.files import line_of, write_json, write_tensors, write_text
from fedrobust.results.memory_folder import MEMORY
from fedrobust.results.records import WrittenLines
from fedrobust.scenario import RunIdentity

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["CHECKPOINT", "RunFolder", "UnwritableRun", "discard", "partial_of", "recover"]

CHECKPOINT = "checkpoint.safetensors"

#: The files to which each round adds a line.
LINES = ("rounds.jsonl", "verdicts.jsonl", "client_metrics.jsonl", "timings.jsonl")

#: What makes a folder count as complete, finished or resumable: deleted before anything else of it.
_MARKS = (SUMS, "summary.json", CHECKPOINT)


@dataclass
class _Written:
    """What a file of lines holds so far."""

    length: int = 0
    digest: _Hash = field(default_factory=hashlib.sha256)

    def add(self, content: bytes) -> None:
        """Count what was appended."""
        self.length += len(content)
        self.digest.update(content)


class RunFolder:
    """One run's files, under `RunIdentity.out`.

    Parameters
    ----------
    run : RunIdentity
    resume : bool
        Keep the files of an earlier unfinished run.

    Attributes
    ----------
    completed : int
        Rounds that the checkpoint keeps.

    Raises
    ------
    UserError
        If the folder cannot be written, or another process is running the same settings there.
    """

    def __init__(self, run: RunIdentity, *, resume: bool = False) -> None:
        """Create the partial folder, emptied of an earlier unfinished run unless that is resumed."""
        self.final, self.partial = run.folder, partial_of(run.folder)
        self.completed = 0
        self._written: dict[str, _Written] = {}
        self._names = {"settings.toml"}
        try:
            self.final.parent.mkdir(parents=True, exist_ok=True)
            self._lock = Lock(self.final)
        except OSError as error:
            raise _unwritable(run.out, error) from None
        try:
            self._prepare(resume)
            write_text(self.partial / "settings.toml", _toml(run))
        except BaseException as error:
            self._lock.release()
            if isinstance(error, OSError):
                raise _unwritable(run.out, error) from None
            raise

    def _prepare(self, resume: bool) -> None:
        _recover(self.final)
        if self.partial.is_symlink():
            raise UserError(f"{self.partial} is a symbolic link, which is not followed; remove it")
        self.partial.mkdir(exist_ok=True)
        sweep_asides(self.partial)
        if not resume:
            _empty(self.partial, keep="settings.toml")

    def write_text(self, name: str, text: str) -> None:
        """Write a text file of the folder."""
        with self._writing(name):
            write_text(self.partial / name, text)

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a file of the folder."""
        with self._writing(name):
            write_bytes(self.partial / name, content)

    def write_json(self, name: str, content: object) -> None:
        """Write a JSON file of the folder, indented."""
        with self._writing(name):
            write_json(self.partial / name, content)

    def append(self, name: str, line: object) -> None:
        """Add one line to a ``.jsonl`` file of the folder."""
        content = line_of(line)
        with self._writing(name):
            append_bytes(self.partial / name, content)
        self._written.setdefault(name, _Written()).add(content)

    def written_lines(self) -> dict[str, WrittenLines]:
        """Return how long each ``.jsonl`` file is, and its checksum, for the checkpoint to state.

        Raises
        ------
        UserError
            If somebody has changed or deleted files of the folder meanwhile.
        """
        with self._writing():
            self._check_complete()
        return {
            name: WrittenLines(bytes=one.length, sha256=one.digest.hexdigest())
            for name, one in self._written.items()
        }

    def cut_lines(self, lines: Mapping[str, WrittenLines]) -> None:
        """Cut the ``.jsonl`` files to what a checkpoint states; those that it does not name are deleted.

        Raises
        ------
        ValueError
            If a file is shorter, or damaged.
        """
        for name in LINES:
            path = self.partial / name
            if name not in lines:
                path.unlink(missing_ok=True)
                continue
            kept = read_regular(path)[: lines[name].bytes]
            written = _Written()
            written.add(kept)
            if WrittenLines(bytes=len(kept), sha256=written.digest.hexdigest()) != lines[name]:
                raise ValueError(f"{name} is not what it was when the checkpoint was written")
            # Another file of that name, as an old one may have a second name outside.
            self.write_bytes(name, kept)
            self._written[name] = written

    def write_model(self, tensors: Mapping[str, NDArray[np.float32]], about: object) -> None:
        """Write model.safetensors with a JSON description in its metadata."""
        self.write_tensors("model.safetensors", tensors, about)

    def write_tensors(self, name: str, tensors: Mapping[str, NDArray[Any]], about: object) -> None:
        """Write a safetensors file of the folder, the same bytes for the same content."""
        with self._writing(name):
            write_tensors(self.partial / name, tensors, about)

    def finish(self) -> Path:
        """Put the complete run in its final place; an older one of the same settings is deleted."""
        with self._writing():
            self._check_complete()
            # All rounds are in the checkpoint: nobody trains again.
            shutil.rmtree(self.partial / MEMORY, ignore_errors=True)
            write_sums(self.partial, but=CHECKPOINT)
            _put_in_place(self.final)
        self._lock.release()
        return self.final

    def release(self) -> None:
        """Release an unfinished run and keep its files."""
        self._lock.release()

    def _check_complete(self) -> None:
        """Refuse a folder in which somebody has changed or deleted files meanwhile."""
        for name in sorted(self._names):
            length = (self.partial / name).stat().st_size
            if name in self._written and self._written[name].length != length:
                raise UserError(
                    f"{self.partial / name} has been changed while the run wrote it; run it again"
                )

    @contextlib.contextmanager
    def _writing(self, name: str | None = None) -> Iterator[None]:
        """Say in one sentence that the disk is full or gone, and what is kept."""
        try:
            yield
            self._names |= {name} if name else set()
        except OSError as error:
            raise UnwritableRun(self.partial, error, self.completed) from None


class UnwritableRun(UserError):
    """A run that stopped because its folder can no longer be written; its completed rounds are kept."""

    def __init__(self, partial: Path, error: OSError, completed: int) -> None:
        """Say what is kept."""
        if not partial.is_dir() or isinstance(error, FileNotFoundError):
            super().__init__(
                f"{partial}, or a file in it, has vanished while the run wrote it; run the settings again"
            )
            return
        kept = "no round is complete, so nothing is kept; start again when there is room"
        if completed:
            rounds = "round 1 is" if completed == 1 else f"rounds 1 to {completed} are"
            kept = f"{rounds} kept; resume with: fedrobust simulate --resume {shlex.quote(str(partial))}"
        super().__init__(f"{partial} cannot be written ({error.strerror}); {kept}")


def partial_of(final: Path) -> Path:
    """Return where a run's files stand until it is complete."""
    return final.with_name(final.name + ".partial")


def recover(final: Path) -> bool:
    """Finish what a kill interrupted when a complete run was put in its place.

    Parameters
    ----------
    final : Path
        The run folder in its final place.

    Returns
    -------
    bool
        Whether a complete run stood beside its place and is now in it.
    """
    if not ((partial_of(final) / SUMS).is_file() or _old_of(final).exists() or Lock.is_left(final)):
        return False
    # Whoever holds the folder does it, or it cannot be done here: then readers see what there is.
    with contextlib.suppress(Held, OSError), Lock(final):
        return _recover(final)
    return False


def discard(folder: Path) -> None:
    """Delete a run folder, so that at no moment half of it counts as a run."""
    _empty(folder)
    shutil.rmtree(folder, ignore_errors=True)


def _recover(final: Path) -> bool:
    if (partial_of(final) / SUMS).is_file():
        _put_in_place(final)
        return True
    old = _old_of(final)
    if (old / "summary.json").is_file() and not final.exists():
        os.rename(old, final)
    elif old.exists():
        discard(old)
    return False


def _put_in_place(final: Path) -> None:
    """Rename a complete run to its final place."""
    partial, old = partial_of(final), _old_of(final)
    (partial / CHECKPOINT).unlink(missing_ok=True)
    if final.exists():
        discard(old)
        os.rename(final, old)
    os.rename(partial, final)
    discard(old)


def _empty(folder: Path, keep: str = "") -> None:
    """Delete what is in a folder, but for a file; first what makes it count as complete or resumable."""
    if folder.is_symlink() or not folder.is_dir():
        return
    for name in _MARKS:
        (folder / name).unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != keep:
            path.unlink()


def _old_of(final: Path) -> Path:
    return final.with_name(final.name + ".old")


def _unwritable(out: str, error: OSError) -> UserError:
    return UserError(f"--out '{out}' cannot be written ({error.strerror}); give another")


def _toml(run: RunIdentity) -> str:
    import tomli_w

    return tomli_w.dumps({k.replace("_", "-"): v for k, v in run.written.items() if v is not None})

"""The run folder: written beside its final place while the run goes on, and renamed when it is whole.

A folder ``<name>-<hash>`` is always a finished run; ``<name>-<hash>.partial`` is one under way, or what an unfinished
one had computed. Running the same settings again replaces the folder only once the new run is whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fedrobust.errors import UserError
from fedrobust.settings import Settings

__all__ = ["RunFolder", "final_folder", "plain"]


class RunFolder:
    """One run's files, under `Settings.out`.

    Parameters
    ----------
    settings : Settings
    resume : bool
        Keep the files of an earlier unfinished run.

    Raises
    ------
    UserError
        If the folder cannot be written, or another process is running the same settings there.
    """

    def __init__(self, settings: Settings, *, resume: bool = False) -> None:
        """Create the partial folder, emptied of an earlier unfinished run unless that is resumed."""
        self.final = final_folder(settings)
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
            raise UserError(
                f"--out '{settings.out}' cannot be written ({error.strerror}); give another"
            ) from None
        for file in () if resume else self.partial.iterdir():
            if file.name != ".lock":
                shutil.rmtree(file) if file.is_dir() else file.unlink()
        self.write_text("settings.toml", _toml(settings))

    def write_text(self, name: str, text: str) -> None:
        """Write a whole file: aside first, then renamed."""
        aside = self.partial / f".{name}.aside"
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, self.partial / name)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file, indented."""
        self.write_text(name, json.dumps(plain(content), indent=2) + "\n")

    def read_json(self, name: str) -> dict[str, Any]:
        """Return a JSON file's content; empty if there is none."""
        path = self.partial / name
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return content

    def append(self, name: str, line: Mapping[str, Any]) -> None:
        """Add one line to a ``.jsonl`` file."""
        with (self.partial / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(plain(line)) + "\n")

    def keep_lines(self, name: str, rounds: int) -> list[dict[str, Any]]:
        """Cut a ``.jsonl`` file to the lines of the first rounds, and return them."""
        text = (self.partial / name).read_text(encoding="utf-8") if (self.partial / name).exists() else ""
        lines = text.splitlines(keepends=True)[:rounds]
        if len(lines) < rounds:
            raise ValueError(f"{name} has {len(lines)} lines for {rounds} rounds")
        self.write_text(name, "".join(lines))
        return [json.loads(line) for line in lines]

    def keep_rounds(self, name: str, rounds: int) -> None:
        """Cut a ``.jsonl`` file to the lines up to a round; it may lack rounds, or not exist."""
        path = self.partial / name
        if not path.exists():
            return
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            # What comes after a line that was cut off in the middle belongs to no whole round.
            if not line.endswith("\n") or json.loads(line)["round"] > rounds:
                break
            kept.append(line)
        self.write_text(name, "".join(kept))

    def write_model(self, tensors: Mapping[str, NDArray[np.float32]], about: Mapping[str, Any]) -> None:
        """Write model.safetensors with a JSON description in its metadata."""
        self.write_tensors("model.safetensors", tensors, about)

    def write_tensors(
        self, name: str, tensors: Mapping[str, NDArray[Any]], about: Mapping[str, Any] | Sequence[Any]
    ) -> None:
        """Write a whole safetensors file, the same bytes for the same content."""
        from safetensors.numpy import save_file

        ordered = {key: np.ascontiguousarray(tensors[key]) for key in sorted(tensors)}
        # One metadata key only: safetensors writes several in an order that differs from process to process.
        described = {"fedrobust": json.dumps(plain(about), sort_keys=True)}
        aside = self.partial / f".{name}.aside"
        save_file(ordered, aside, metadata=described)
        os.replace(aside, self.partial / name)

    def finish(self) -> Path:
        """Put the whole run in its final place; an older one of the same settings goes."""
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
        """Let go of an unfinished run, whose files stay."""
        if not self._lock.closed:
            (self.partial / ".lock").unlink(missing_ok=True)
            self._lock.close()


def final_folder(settings: Settings) -> Path:
    """Return where a run of these settings stands once it is finished."""
    return (Path(settings.out) / f"{_name(settings)}-{settings.digest()}").absolute()


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: NumPy numbers as Python's, NaN and infinities as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _name(settings: Settings) -> str:
    parts = [settings.data, settings.strategy] + [chain for chain, _ in settings.threats()]
    return re.sub(r"[^a-z0-9_]+", "-", "-".join(parts).lower()).strip("-")[:80]


def _toml(settings: Settings) -> str:
    import tomli_w

    return tomli_w.dumps({k.replace("_", "-"): v for k, v in settings.model_dump().items() if v is not None})

"""The small run that faults hit, what continues it, and what tells whether anything was lost."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.reliability.children import Ended, in_child
from fedrobust.commands.existing_run import valid_run
from fedrobust.commands.messages import refuse
from fedrobust.commands.resume import settings_to_resume
from fedrobust.errors import UserError
from fedrobust.results.folder import partial_of
from fedrobust.runtime.runner import keep_report, run
from fedrobust.scenario import RunIdentity
from fedrobust.settings import Settings

__all__ = ["VALUES", "Bench", "continued", "here", "untold", "wrong_sum"]

Result = TypeVar("Result")

#: A run that a fork ends in half a second.
VALUES = {
    "clients": 3,
    "rounds": 2,
    "malicious": 1,
    "local_epochs": 1,
    "networks": 1,
    "workers": 1,
    "data": "phantom(images=120, size=16)",
}
#: The files that must have the same bits however often a run was cut off.
SAME = (
    *("rounds.jsonl", "verdicts.jsonl", "client_metrics.jsonl", "evaluation.json"),
    *("model.safetensors", "examples.safetensors"),
)


@dataclass(frozen=True)
class Bench:
    """An unbroken run, to compare others with."""

    top: Path
    unbroken: Path

    def settings(self, out: Path) -> Settings:
        """Return the settings of the run under another folder."""
        return Settings(**VALUES, out=str(out))

    def folder(self, out: Path) -> Path:
        """Return where the run stands there."""
        return RunIdentity.of(self.settings(out)).folder

    def command(self, out: Path, *, fresh: bool = False, **changes: object) -> Callable[[], None]:
        """Return what runs it, as `fedrobust simulate` does, but its hospitals in the same process."""
        settings = Settings.model_validate({**VALUES, "out": str(out), **changes})
        return lambda: _simulate(settings, fresh=fresh)

    def again(self, out: Path) -> Callable[[], None]:
        """Return the command that continues what is there."""
        partial = partial_of(self.folder(out))
        if (partial / "settings.toml").is_file():
            return lambda: _simulate(_refusing(lambda: settings_to_resume(partial, {}, None)), resume=True)
        # Killed before anything was kept: whoever replaces a finished run says so again.
        return self.command(out, fresh=partial.exists())

    def broken(self, out: Path) -> str:
        """Return what is wrong with the run there; empty if it is as the unbroken one."""
        folder = self.folder(out)
        beside = sorted(path.name for path in out.iterdir() if path != folder)
        if beside or not folder.is_dir():
            return f"the folder holds {beside}"
        names = {path.name for path in folder.iterdir()}
        if names != {path.name for path in self.unbroken.iterdir()}:
            return f"the run holds {sorted(names)}"
        for name in SAME:
            if (folder / name).read_bytes() != (self.unbroken / name).read_bytes():
                return f"{name} has other bits"
        timed = [json.loads(line)["round"] for line in (folder / "timings.jsonl").read_text().splitlines()]
        if timed != [0, 1, 2]:
            return f"timings.jsonl has the rounds {timed}"
        return wrong_sum(folder)


def _simulate(settings: Settings, *, fresh: bool = False, resume: bool = False) -> None:
    """Run settings as the command does; a process of its own for hospitals would cost each fork seconds."""
    warnings.simplefilter("ignore")
    found = None if fresh or resume else _refusing(lambda: valid_run(settings))
    if found is None:
        _refusing(lambda: run(settings, [], resume=resume, isolate=False))
    elif not (found.folder / "report.html").is_file():
        keep_report(found.folder)


def _refusing(function: Callable[[], Result]) -> Result:
    try:
        return function()
    except UserError as error:
        refuse(str(error))
        raise


def wrong_sum(folder: Path) -> str:
    """Return which file of a folder does not match its checksum; empty if all do."""
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        checksum, _, name = line.partition("  ")
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != checksum:
            return f"{name} does not match its checksum"
    return ""


def here(command: Callable[[], object]) -> None:
    """Run a command in this process, so that all forks have the modules and the data."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            command()
    except SystemExit as left:
        if left.code:
            raise RuntimeError(f"exit code {left.code}: {printed.getvalue()[-500:]}") from None


def continued(bench: Bench, out: Path) -> str:
    """Continue what stands in a folder; return what is wrong then."""
    ended = in_child(bench.again(out), bench.top)
    if not ended.code and not (bench.folder(out) / "report.html").is_file():
        # A page that is missing is written by the same command, given again.
        ended = in_child(bench.command(out), bench.top)
    return f"exit code {ended.code}: {ended.output[-500:]}" if ended.code else bench.broken(out)


def untold(ended: Ended) -> str:
    """Return how a command that met a full disk ended, if not in one sentence and by the right exit code."""
    sentences = [line for line in ended.output.splitlines() if line.startswith("fedrobust: ")]
    refusals = [line for line in sentences if not line.startswith("fedrobust: note: ")]
    is_told = (ended.code, len(refusals)) in ((0, 0), (2, 1)) and "Traceback" not in ended.output
    return "" if is_told else f"exit code {ended.code}: {ended.output[-500:]}"

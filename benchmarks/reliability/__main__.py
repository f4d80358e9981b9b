"""Injects the faults that docs/reliability.md lists, and counts which of them cost anything.

    make test-reliability                  # all promises, two at once, at most 25 minutes on 2 cores
    python -m benchmarks.reliability 1 4   # two of them

It prints a line a promise: faults injected, survived, lost. The last line is JSON. The exit code is 1 if a
promise is broken.

To add a promise, put a module ``promise_<number>_<word>.py`` beside this file; nothing else lists it:

    TITLE = "Nothing computed is lost"     # the promise in a few words
    MINUTES = 10                           # it is ended then; together at most 50, as two run at once


    def inject(faults: Faults) -> None:
        for signal in ("SIGTERM", "SIGKILL"):
            with faults.fault("signals", signal):    # survives unless the block raises
                ...
        faults.check("files", text == expected, "a cut file is refused")   # or with a condition
        if not shutil.which("strace"):
            faults.skip("system calls", "strace is not installed")
        while faults.seconds_left > 60: ...          # random faults, as many as time allows

It runs in a process of its own; its files go into ``faults.folder``, which is deleted afterwards. What it
starts in the background ends with it, as its whole process group is ended.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.reliability.faults import Faults

HERE = Path(__file__).parent
TOP = HERE.parents[1]

#: So many promises are tested at once: on 2 cores, one each.
AT_ONCE = 2

#: A promise stops so many seconds before it would be ended, so that its counts are kept.
RESERVE_S = 20.0

#: What a promise came to, as JSON.
Found = Mapping[str, Any]


def modules() -> dict[int, str]:
    """Return the promises' modules by their numbers."""
    names = sorted(file.stem for file in HERE.glob("promise_*.py"))
    return {int(name.split("_")[1]): f"benchmarks.reliability.{name}" for name in names}


def measured(number: int) -> Found:
    """Inject the faults of one promise in this process."""
    module, began = importlib.import_module(modules()[number]), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="reliability-", ignore_cleanup_errors=True) as folder:
        faults = Faults(Path(folder), began + 60 * module.MINUTES - RESERVE_S)
        try:
            module.inject(faults)
        except Exception as error:  # noqa: BLE001 - a promise that cannot be tested is not kept
            faults.check("the test itself", False, f"{type(error).__name__}: {error}")
    return _found(number, module.TITLE, faults, time.monotonic() - began)


def _found(number: int, title: str, faults: Faults, seconds: float) -> Found:
    return {
        "number": number,
        "title": title,
        **faults.totals(),
        "kinds": {kind: asdict(count) for kind, count in faults.kinds.items()},
        "what_was_lost": faults.lost,
        "skipped": faults.skipped,
        "seconds": round(seconds, 1),
    }


@dataclass
class _Running:
    """A promise under test in a process of its own."""

    number: int
    process: subprocess.Popen[str]
    result: Path
    began: float
    minutes: float

    @classmethod
    def start(cls, number: int, folder: Path) -> _Running:
        result = folder / f"{number}.json"
        words = [sys.executable, "-m", "benchmarks.reliability", str(number), "--write", str(result)]
        # One core each: the threads of torch and BLAS would wait for the other promise's.
        alone = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(words, cwd=TOP, env=alone, text=True, start_new_session=True)
        minutes = float(importlib.import_module(modules()[number]).MINUTES)
        return cls(number, process, result, time.monotonic(), minutes)

    def ended(self) -> Found | None:
        """Return what it came to; None while it runs."""
        seconds = time.monotonic() - self.began
        if self.process.poll() is None and seconds < 60 * self.minutes:
            return None
        self.end()
        if self.result.is_file():
            return dict(json.loads(self.result.read_text()))
        title = importlib.import_module(modules()[self.number]).TITLE
        faults = Faults(self.result.parent)
        faults.check("the test itself", False, f"no result within {self.minutes:g} minutes")
        return _found(self.number, title, faults, seconds)

    def end(self) -> None:
        """End its process and all of its group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def measured_all(numbers: Sequence[int]) -> list[Found]:
    """Test these promises, two at once, the longest first; print a line for each as it ends."""
    found: list[Found] = []
    waiting = sorted(numbers, key=lambda number: -importlib.import_module(modules()[number]).MINUTES)
    running: list[_Running] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            while waiting or running:
                while waiting and len(running) < AT_ONCE:
                    running.append(_Running.start(waiting.pop(0), Path(folder)))
                time.sleep(0.2)
                for one in list(running):
                    if (result := one.ended()) is not None:
                        running.remove(one)
                        found.append(result)
                        print(line(result), flush=True)
        finally:
            for one in running:
                one.end()
    return sorted(found, key=lambda one: int(one["number"]))


def line(found: Found) -> str:
    """Return a promise's result in a line, and what was lost or could not be tried in further ones."""
    counts = f"{found['injected']:,} faults injected, {found['survived']:,} survived, {found['lost']:,} lost"
    lines = [f"promise {found['number']}, {found['title']}: {counts} ({found['seconds']:.0f} s)"]
    lines += [f"  lost: {what}" for what in found["what_was_lost"]]
    lines += [f"  not tried: {kind}: {why}" for kind, why in found["skipped"].items()]
    return "\n".join(lines)


def main() -> None:
    """Test the promises that the command line names."""
    parser = argparse.ArgumentParser(description="Inject faults and count which cost anything.")
    parser.add_argument("numbers", nargs="*", type=int, metavar="PROMISE", help="all unless given")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    unknown = [number for number in given.numbers if number not in modules()]
    if unknown:
        parser.error(f"there is no promise {unknown[0]}; there are {', '.join(map(str, modules()))}")
    if given.write:
        given.write.write_text(json.dumps(measured(given.numbers[0])))
        return
    found = measured_all(given.numbers or list(modules()))
    print(json.dumps({"promises": found}))
    sys.exit(any(one["lost"] for one in found))


if __name__ == "__main__":
    main()

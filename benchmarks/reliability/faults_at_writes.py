"""Kills and failures at each system call of a command that writes, by strace."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import tomli_w

from benchmarks.reliability.children import Point, can_trace, in_child, write_points
from benchmarks.reliability.faulted_run import VALUES, Bench, continued, here, untold, wrong_sum
from benchmarks.reliability.faults import Faults
from fedrobust.commands.program import main
from fedrobust.results.folder import partial_of
from fedrobust.suites.command import Request, benchmark

__all__ = ["LAST_KINDS_S", "fault_each_write"]

#: Seconds that the faults after these need; these, and the random kills of commands, stop so early.
LAST_KINDS_S = 150

#: What a disk says, by the error that strace gives to a call.
DISK = {"ENOSPC": "No space left", "EROFS": "Read-only", "EIO": "Input/output error", "EDQUOT": "quota"}


def fault_each_write(faults: Faults, bench: Bench) -> None:
    """Inject the faults."""
    if not can_trace():
        faults.skip("each system call that writes", "strace is not installed, or may not attach")
        return
    kill_at_writes(faults, bench)
    kill_resume_at_writes(faults, bench)
    kill_fresh_at_writes(faults, bench)
    kill_suite_and_reports(faults, bench)
    fail_at_writes(faults, bench)


def _each(
    faults: Faults, bench: Bench, kind: str, make: Callable[[Path], Callable[[], object]]
) -> Iterator[tuple[Point, Path]]:
    """Yield the points of what a command does in a folder, each with a folder to try it in."""
    out = bench.top / f"{kind}-points"
    ended, points = write_points(make(out), bench.top, out)
    if ended.code or not points:
        raise RuntimeError(f"{kind}: exit code {ended.code}: {ended.output[-500:]}")
    shutil.rmtree(out)
    for number, point in enumerate(points):
        if faults.seconds_left < LAST_KINDS_S:
            faults.skip(f"{len(points) - number} of {len(points)} calls ({kind})", "no time was left")
            return
        yield point, bench.top / f"{kind}-{number}"


def _kill(point: Point) -> list[str]:
    return ["-e", f"inject={point.call}:signal=KILL:when={point.number}"]


def kill_at_writes(faults: Faults, bench: Bench) -> None:
    """Kill a run at each call that writes, and resume it."""
    for point, out in _each(faults, bench, "run", bench.command):
        _killed_and_continued(faults, "kill -9 of a run at a write", bench, point, out, bench.command(out))


def kill_resume_at_writes(faults: Faults, bench: Bench) -> None:
    """Kill a run in its middle, kill what resumes it at each call that writes, and resume that."""

    def halfway(out: Path) -> Callable[[], None]:
        shutil.copytree(half, out)
        return bench.again(out)

    half = _half(bench)
    for point, out in _each(faults, bench, "resumed", halfway):
        kind = "kill -9 of a resumed run at a write"
        _killed_and_continued(faults, kind, bench, point, out, halfway(out))


def kill_fresh_at_writes(faults: Faults, bench: Bench) -> None:
    """Kill a run that replaces a finished one at each call that changes a name."""

    def replacing(out: Path) -> Callable[[], None]:
        shutil.copytree(bench.unbroken, out / bench.unbroken.name)
        return bench.command(out, fresh=True)

    for point, out in _each(faults, bench, "fresh", replacing):
        if point.call in ("openat", "write", "ftruncate"):
            continue
        kind = "kill -9 of a run that replaces another"
        _killed_and_continued(faults, kind, bench, point, out, replacing(out))


def _half(bench: Bench) -> Path:
    """Return a folder with a run that was killed when it wrote round 2."""
    out = bench.top / "half"
    ended = in_child(bench.command(out), bench.top, ["-e", "inject=rename:signal=KILL:when=4"])
    if not ended.killed or not (partial_of(bench.folder(out)) / "checkpoint.safetensors").is_file():
        raise RuntimeError("no run to resume")
    return out


def _killed_and_continued(
    faults: Faults, kind: str, bench: Bench, point: Point, out: Path, command: Callable[[], object]
) -> None:
    first = in_child(command, bench.top, _kill(point))
    if not first.killed:
        faults.check(kind, False, f"{point}: not killed ({first.code}): {first.output[-300:]}")
        return
    wrong = continued(bench, out)
    faults.check(kind, not wrong, f"{point}: {wrong}")
    shutil.rmtree(out)


def kill_suite_and_reports(faults: Faults, bench: Bench) -> None:
    """Kill a suite's command, the command of a page and that of a baseline at each call that writes."""
    suite = bench.top / "own.toml"
    base = {key.replace("_", "-"): v for key, v in VALUES.items() if key not in ("malicious", "workers")}
    suite.write_text(
        tomli_w.dumps(
            {"base": base, "threats": {"none": "none"}, "defences": ["fedavg", "median"], "seeds": [0]}
        )
    )
    made = bench.top / "suite"
    words = [sys.executable, "-m", "fedrobust.benchmark", str(suite), f"--out={made}", "--jobs=1"]
    subprocess.run(words, cwd=bench.top, capture_output=True, check=True)
    here(lambda: benchmark(_request(suite, made)))

    def results(out: Path) -> Callable[[], object]:
        shutil.copytree(made, out)
        shutil.rmtree(out / "own")
        # All cells are finished; the command itself would start processes for others first.
        return lambda: benchmark(_request(suite, out))

    def page(out: Path) -> Callable[[], None]:
        shutil.copytree(made, out)
        return lambda: main(["report", str(out / "own"), *map(str, sorted((out / "cells").iterdir()))])

    for kind, make in (("suite", results), ("report", page)):
        for point, out in _each(faults, bench, kind, make):
            command = make(out)
            in_child(command, bench.top, _kill(point))
            ended = in_child(command, bench.top)
            wrong = _other_files(made, out) if not ended.code else ended.output[-500:]
            faults.check(f"kill -9 of a {kind} at a write", not wrong, f"{point}: {wrong}")
            shutil.rmtree(out)


def _request(suite: Path, out: Path) -> Request:
    return Request(str(suite), out, {}, {}, quiet=True)


def _other_files(expected: Path, found: Path) -> str:
    """Return how the files of two folders of suites differ; their names, and the bits of the results."""
    names = [sorted(str(path.relative_to(top)) for path in top.rglob("*")) for top in (expected, found)]
    if names[0] != names[1]:
        return f"other files: {sorted(set(names[0]) ^ set(names[1]))}"
    for name in ("suite.json", "table.csv", "own.toml"):
        if (expected / "own" / name).read_bytes() != (found / "own" / name).read_bytes():
            return f"{name} has other bits"
    return wrong_sum(found / "own")


def fail_at_writes(faults: Faults, bench: Bench) -> None:
    """Let each call of a run that writes fail as a disk does: one sentence, and the run can be resumed."""
    errors = itertools.cycle(DISK)
    for point, out in _each(faults, bench, "disk", bench.command):
        error = next(errors)
        inject = ["-e", f"inject={point.call}:error={error}:when={point.number}"]
        ended = in_child(bench.command(out), bench.top, inject)
        told, wrong = untold(ended), continued(bench, out)
        faults.check("a disk that fails at a write", not (wrong or told), f"{error} {point}: {told} {wrong}")
        shutil.rmtree(out)

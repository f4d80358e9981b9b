"""Promise 1: whatever ends a run, a suite or a report, nothing computed is lost and nothing counted twice.

Each fault hits a fork of this process that runs a command, at one of its system calls that write: strace
kills it there, or lets the call fail as a full or read-only disk does. Then the command is given again, with
``--resume`` where there is something to resume, and the folder must be that of an unbroken run: the same
bits, every round once, every line complete, no file beside those of a run.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import tomli_w

from benchmarks.reliability.children import Ended, Point, can_trace, in_child, write_points
from benchmarks.reliability.damaged_folders import damaged, refused_or_read
from benchmarks.reliability.faults import Faults
from fedrobust.commands.existing_run import valid_run
from fedrobust.commands.messages import refuse
from fedrobust.commands.program import main
from fedrobust.commands.resume import settings_to_resume
from fedrobust.disk.lock import Held, Lock
from fedrobust.errors import UserError
from fedrobust.reports.writing import write_report
from fedrobust.results.folder import partial_of
from fedrobust.runtime.runner import keep_report, run
from fedrobust.scenario import RunIdentity
from fedrobust.settings import Settings
from fedrobust.suites.command import Request, benchmark

__all__ = ["MINUTES", "TITLE", "inject"]

Result = TypeVar("Result")

TITLE = "nothing computed is lost, nothing counted twice"
MINUTES = 11

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
#: What a disk says, by the error that strace gives to a call.
DISK = {"ENOSPC": "No space left", "EROFS": "Read-only", "EIO": "Input/output error", "EDQUOT": "quota"}

#: So many seconds go to damaged folders; a page of one that takes longer than the second hangs.
_DAMAGE_S, _SLOW_S = 45, 20

#: Seconds that the last kinds of faults need; the random kills before them stop so early.
_LAST_KINDS_S = 150


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
        return _wrong_sum(folder)


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


def _wrong_sum(folder: Path) -> str:
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        checksum, _, name = line.partition("  ")
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != checksum:
            return f"{name} does not match its checksum"
    return ""


def inject(faults: Faults) -> None:
    """Inject the faults."""
    warm = faults.folder / "unbroken"
    bench = Bench(faults.folder, RunIdentity.of(Settings(**VALUES, out=str(warm))).folder)
    _here(bench.command(warm))
    two_processes(faults)
    vanish(faults, bench)
    fill_disk(faults, bench)
    if can_trace():
        kill_at_writes(faults, bench)
        kill_resume_at_writes(faults, bench)
        kill_fresh_at_writes(faults, bench)
        kill_suite_and_reports(faults, bench)
        fail_at_writes(faults, bench)
    else:
        faults.skip("each system call that writes", "strace is not installed, or may not attach")
    damage(faults, bench)
    kill_commands(faults, bench)
    kill_at_random(faults, bench)


def _here(command: Callable[[], object]) -> None:
    """Run a command in this process, so that all forks have the modules and the data."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            command()
    except SystemExit as left:
        if left.code:
            raise RuntimeError(f"exit code {left.code}: {printed.getvalue()[-500:]}") from None


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
        if faults.seconds_left < _LAST_KINDS_S:
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
    wrong = _continued(bench, out)
    faults.check(kind, not wrong, f"{point}: {wrong}")
    shutil.rmtree(out)


def _continued(bench: Bench, out: Path) -> str:
    """Continue what stands in a folder; return what is wrong then."""
    ended = in_child(bench.again(out), bench.top)
    if not ended.code and not (bench.folder(out) / "report.html").is_file():
        # A page that is missing is written by the same command, given again.
        ended = in_child(bench.command(out), bench.top)
    return f"exit code {ended.code}: {ended.output[-500:]}" if ended.code else bench.broken(out)


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
    _here(lambda: benchmark(_request(suite, made)))

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
    return _wrong_sum(found / "own")


def fail_at_writes(faults: Faults, bench: Bench) -> None:
    """Let each call of a run that writes fail as a disk does: one sentence, and the run can be resumed."""
    errors = itertools.cycle(DISK)
    for point, out in _each(faults, bench, "disk", bench.command):
        error = next(errors)
        inject = ["-e", f"inject={point.call}:error={error}:when={point.number}"]
        ended = in_child(bench.command(out), bench.top, inject)
        told, wrong = _told(ended), _continued(bench, out)
        faults.check("a disk that fails at a write", not (wrong or told), f"{error} {point}: {told} {wrong}")
        shutil.rmtree(out)


def _told(ended: Ended) -> str:
    """Return how a command that met a full disk ended, if not in one sentence and by the right exit code."""
    sentences = [line for line in ended.output.splitlines() if line.startswith("fedrobust: ")]
    refusals = [line for line in sentences if not line.startswith("fedrobust: note: ")]
    is_told = (ended.code, len(refusals)) in ((0, 0), (2, 1)) and "Traceback" not in ended.output
    return "" if is_told else f"exit code {ended.code}: {ended.output[-500:]}"


def fill_disk(faults: Faults, bench: Bench) -> None:
    """Run on small disks of many sizes, which are full at one file or another; make room, and resume."""
    disk = bench.top / "disk"
    disk.mkdir()
    for kib in (4, 8, 16, 64, 256, 384, 512, 640, 768, 800, 832, 900, 1000, 1100, 1200, 1500):
        mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", str(disk)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            faults.skip("a full disk (tmpfs)", "this user may not mount one")
            return
        try:
            ended = in_child(bench.command(disk), bench.top)
            subprocess.run([*mount[:4], "remount,size=64m", "none", str(disk)], check=True)
            told, wrong = _told(ended), _continued(bench, disk)
            faults.check("a full disk (tmpfs)", not (told or wrong), f"{kib} KiB: {told} {wrong}")
        finally:
            subprocess.run(["umount", str(disk)], check=True)


def take_and_release(folder: Path, seconds: float, found: multiprocessing.Queue[tuple[int, int]]) -> None:
    """Take and release a run folder; count how often, and how often another process had it as well."""
    taken = both = 0
    mark, ends = folder.with_name("owner"), time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            lock = Lock(folder)
        except Held:
            continue
        taken += 1
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
            time.sleep(0.0005)
            os.unlink(mark)
        except FileExistsError:
            both += 1
        lock.release()
    found.put((taken, both))


def two_processes(faults: Faults) -> None:
    """Let four processes take and release one run folder for some seconds."""
    top = faults.folder / "race"
    top.mkdir()
    context = multiprocessing.get_context("fork")
    found: multiprocessing.Queue[tuple[int, int]] = context.Queue()
    all_of_them = [context.Process(target=take_and_release, args=(top / "run", 8.0, found)) for _ in range(4)]
    for process in all_of_them:
        process.start()
    counts = [found.get(timeout=60) for _ in all_of_them]
    for process in all_of_them:
        process.join()
    taken, both = (sum(count[place] for count in counts) for place in (0, 1))
    for _ in range(taken - both):
        faults.check("two processes on one run folder", True, "")
    for _ in range(both):
        faults.check("two processes on one run folder", False, "two held it at once")


def vanish(faults: Faults, bench: Bench) -> None:
    """Delete a run's folder, or the one above it, while it runs."""
    rounds = 50
    for number, what in enumerate(("the run folder", "--out")):
        out = bench.top / f"vanish-{number}"
        values = {**VALUES, "rounds": rounds, "patience": rounds, "out": str(out)}
        partial = partial_of(RunIdentity.of(Settings.model_validate(values)).folder)
        remover = (
            f"import pathlib, shutil, time\nline = pathlib.Path({str(partial / 'rounds.jsonl')!r})\n"
            "while not line.exists():\n    time.sleep(0.001)\n"
            f"shutil.rmtree({str(partial if number == 0 else out)!r}, ignore_errors=True)"
        )
        with subprocess.Popen([sys.executable, "-c", remover]) as process:
            command = bench.command(out, rounds=rounds, patience=rounds)
            ended = in_child(command, bench.top)
            process.kill()
        held = (
            ended.code == 2 and "Traceback" not in ended.output and "while the run wrote it" in ended.output
        )
        faults.check("a folder that vanishes", held, f"{what}: {ended.code} {ended.output[-900:]}")
        shutil.rmtree(out, ignore_errors=True)


def damage(faults: Faults, bench: Bench) -> None:
    """Give damaged and hostile run folders to `report`: it makes a page, or refuses in a sentence."""
    chance, started = random.Random(2), time.monotonic()
    for what, folder in damaged(bench.unbroken, bench.top / "damaged", chance):
        began = time.monotonic()
        wrong = refused_or_read(lambda copy=folder: write_report(copy))  # type: ignore[misc]
        if not wrong and time.monotonic() - began > _SLOW_S:
            wrong = f"took {time.monotonic() - began:.0f} s"
        faults.check("a damaged folder given to report", not wrong, f"{what[:200]}: {wrong}")
        if time.monotonic() - started > _DAMAGE_S:
            return


def kill_commands(faults: Faults, bench: Bench) -> None:
    """Kill commands with two workers at random moments: the server, a worker, the whole tree."""
    chance = random.Random(1)
    for number, victim in enumerate(("server", "worker", "tree") * 4):
        if faults.seconds_left < _LAST_KINDS_S:
            return
        out = bench.top / f"command-{number}"
        flags = [f"--{k.replace('_', '-')}={v}" for k, v in VALUES.items() if k != "workers"]
        words = [sys.executable, "-m", "fedrobust.simulate", *flags, f"--out={out}", "--workers=2", "--quiet"]
        process = subprocess.Popen(
            words, cwd=bench.top, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        manifest = partial_of(bench.folder(out)) / "manifest.json"
        ends = time.monotonic() + 60
        while not manifest.exists() and process.poll() is None and time.monotonic() < ends:
            time.sleep(0.01)
        time.sleep(chance.random())
        _kill_one(process, victim)
        try:
            output = process.communicate(timeout=120)[0].decode(errors="replace")
            kind = f"kill -9 at a random moment: the {victim} of a command"
            if victim == "worker" and process.returncode == 0:
                wrong = _worker_lost(bench.folder(out))
            else:
                wrong = _continued(bench, out)
            faults.check(kind, not wrong, f"{wrong} {output[-300:]}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            shutil.rmtree(out, ignore_errors=True)


def _kill_one(process: subprocess.Popen[bytes], victim: str) -> None:
    try:
        if victim == "server":
            process.kill()
        elif victim == "tree":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            workers = _workers(process.pid)
            if workers:
                os.kill(workers[-1], signal.SIGKILL)
    except ProcessLookupError:
        pass


def _workers(session: int) -> Sequence[int]:
    """Return the processes of a session, but for its leader."""
    found = subprocess.run(
        ["ps", "-o", "pid=", "-s", str(session)], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in found.stdout.split() if int(pid) != session]


def _worker_lost(folder: Path) -> str:
    """Return what is wrong with a run that lost a worker: hospitals may fail, rounds may not."""
    lines = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    return "" if [line["round"] for line in lines] == [1, 2] else f"rounds.jsonl holds {lines}"


def kill_at_random(faults: Faults, bench: Bench) -> None:
    """Kill runs at random moments, each up to three times, as many as time allows."""
    chance, number = random.Random(0), 0
    while number < 100 and faults.seconds_left > 30:
        number += 1
        out = bench.top / f"random-{number}"
        for _ in range(chance.randint(1, 3)):
            delay = 0.6 * chance.random()
            in_child(_dying(bench.again(out), delay), bench.top)
        wrong = _continued(bench, out)
        faults.check("kill -9 of a run at a random moment", not wrong, f"run {number}: {wrong}")
        shutil.rmtree(out)


def _dying(function: Callable[[], object], delay: float) -> Callable[[], object]:
    """Return the function with a timer that kills its process."""

    def run() -> object:
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, delay)
        return function()

    return run

"""Promise 1: whatever ends a run, a suite or a report, nothing computed is lost and nothing counted twice.

Each fault hits a fork of this process that runs a command, at one of its system calls that write: strace
kills it there, or lets the call fail as a full or read-only disk does. Then the command is given again, with
``--resume`` where there is something to resume, and the folder must be that of an unbroken run: the same
bits, every round once, every line complete, no file beside those of a run.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time

from benchmarks.reliability.children import in_child
from benchmarks.reliability.damaged_folders import damaged, refused_or_read
from benchmarks.reliability.faulted_run import VALUES, Bench, continued, here, untold
from benchmarks.reliability.faults import Faults
from benchmarks.reliability.faults_at_writes import fault_each_write
from benchmarks.reliability.folder_race import two_processes
from benchmarks.reliability.random_kills import kill_at_random, kill_commands
from fedrobust.reports.writing import write_report
from fedrobust.results.folder import partial_of
from fedrobust.scenario import RunIdentity
from fedrobust.settings import Settings

__all__ = ["MINUTES", "TITLE", "inject"]

TITLE = "nothing computed is lost, nothing counted twice"
MINUTES = 11

#: So many seconds go to damaged folders; a page of one that takes longer than the second hangs.
_DAMAGE_S, _SLOW_S = 45, 20


def inject(faults: Faults) -> None:
    """Inject the faults."""
    warm = faults.folder / "unbroken"
    bench = Bench(faults.folder, RunIdentity.of(Settings(**VALUES, out=str(warm))).folder)
    here(bench.command(warm))
    two_processes(faults)
    vanish(faults, bench)
    fill_disk(faults, bench)
    fault_each_write(faults, bench)
    damage(faults, bench)
    kill_commands(faults, bench)
    kill_at_random(faults, bench)


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
            told, wrong = untold(ended), continued(bench, disk)
            faults.check("a full disk (tmpfs)", not (told or wrong), f"{kib} KiB: {told} {wrong}")
        finally:
            subprocess.run(["umount", str(disk)], check=True)


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

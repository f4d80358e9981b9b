"""Promise 7: a thousand hospitals, and more suite cells at once than cores, leak nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.engine_big import tree_bytes
from benchmarks.reliability.faults import Faults
from fedrobust import Observer, Settings, run
from fedrobust.runtime.observers import RoundOutcome

__all__ = ["MINUTES", "TITLE", "Usage", "inject", "many_cells", "many_hospitals", "usage"]

TITLE = "under load nothing leaks and the end is correct"
MINUTES = 9

HOSPITALS, ROUNDS = 1000, 50
#: Memory of the last rounds over that of the rounds after the first ones, in which caches fill.
GROWTH = 1.05
#: Seconds that the suite's helpers may take to end after it.
END_S = 10.0
#: Images of a hospital.
IMAGES = 3

#: 24 cells: four rules, two threats, three seeds.
SUITE = """
title = "load"
seeds = [0, 1, 2]
method-axis = "rule"

[base]
data = "phantom(images=160, size=16)"
clients = 4
rounds = 2
local-epochs = 1
networks = 1
head = "linear"

[axes.rule]
fedavg = {strategy = "fedavg"}
median = {strategy = "median"}
trimmed = {strategy = "trimmed-mean"}
krum = {strategy = "krum"}

[axes.threat]
clean = {}
flip = {threat = "label-flip: 1"}
"""


@dataclass(frozen=True)
class Usage:
    """What a process and its descendants hold.

    Attributes
    ----------
    bytes : int
        Memory that is theirs; shared pages count once.
    descriptors : int
        Of the process itself.
    zombies : frozenset of int
        Ended processes that nobody has waited for.
    """

    bytes: int
    descriptors: int
    zombies: frozenset[int]


def usage(root: int) -> Usage:
    """Measure a process and its descendants."""
    memory = tree_bytes(root, ("Pss_Anon", "Pss_Shmem"))
    descriptors = len(os.listdir(f"/proc/{root}/fd"))
    return Usage(memory, descriptors, frozenset(_zombies_below(root)))


def _zombies_below(root: int) -> Iterator[int]:
    below: dict[int, list[tuple[int, str]]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        below.setdefault(int(parent), []).append((int(entry.name), state))
    waiting = [root]
    while waiting:
        for process, state in below.get(waiting.pop(), []):
            waiting.append(process)
            if state == "Z":
                yield process


class Monitor(Observer):
    """Measures this process and its workers after each round."""

    def __init__(self) -> None:
        """Start with no round."""
        self.after: list[Usage] = []
        self.faults = 0

    def round_done(self, outcome: RoundOutcome) -> None:
        """Measure."""
        self.after.append(usage(os.getpid()))
        self.faults += len(outcome.line.faults)


def many_hospitals(faults: Faults, hospitals: int, rounds: int) -> None:
    """Run a federation of many hospitals, and compare its last rounds with its early ones."""
    monitor, kind = Monitor(), f"{hospitals} hospitals x {rounds} rounds"
    settings = Settings(
        data=f"phantom(images={-(-hospitals * IMAGES * 10 // 7)}, size=16)",
        clients=hospitals,
        rounds=rounds,
        # With patience beyond the rounds, no round is saved by early stopping.
        patience=rounds + 1,
        workers=2,
        networks=1,
        head="linear",
        local_epochs=1,
        strategy="fedavg",
        out=str(faults.folder / "hospitals"),
    )
    result = run(settings, [monitor])
    part = max(1, rounds // 5)
    early, late = monitor.after[part : 2 * part], monitor.after[-part:]
    growth = max(one.bytes for one in late) / max(one.bytes for one in early)
    print(f"  {kind}: {late[-1].bytes / 1e6:.0f} MB at the end, {growth:.3f} times the early rounds'")
    faults.check(kind, len(result.rounds) == rounds and not monitor.faults, "rounds or hospitals were lost")
    faults.check(kind, growth <= GROWTH, f"memory grew by {growth - 1:.1%}")
    descriptors = [max(one.descriptors for one in some) for some in (early, late)]
    faults.check(kind, descriptors[1] <= descriptors[0], f"descriptors grew from {descriptors}")
    faults.check(kind, not any(one.zombies for one in late), "a zombie is left")


def many_cells(faults: Faults, jobs: int, extra: Sequence[str] = ()) -> None:
    """Run the suite with so many cells at once, and watch its processes."""
    folder, kind = faults.folder / "cells", f"{jobs} suite cells at once"
    (folder / "experiments").mkdir(parents=True)
    (folder / "experiments" / "load.toml").write_text(SUITE)
    words = [sys.executable, "-m", "fedrobust.benchmark", "load", "--jobs", str(jobs), "--out", "out", *extra]
    top = str(Path(__file__).parents[2])
    marked = {**os.environ, "FEDROBUST_LOAD": str(folder), "PYTHONPATH": top}
    seen: list[Usage] = []
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*words, "--quiet"], cwd=folder, env=marked, stdout=log, stderr=log)
        while process.poll() is None:
            try:
                seen.append(usage(process.pid))
            except OSError:
                break
            time.sleep(0.5)
        code = process.wait()
    finished = [found for found in (folder / "out").rglob("summary.json") if ".partial" not in str(found)]
    cells = len(list((folder / "out").rglob("summary.json")))
    print(f"  {kind}: {len(finished)} runs, at most {max(one.bytes for one in seen) / 1e6:.0f} MB")
    faults.check(kind, code == 0, f"exit code {code}: {(folder / 'log').read_text()[-500:]}")
    faults.check(kind, len(finished) == cells > 0, f"{len(finished)} of {cells} runs are finished")
    # One that is seen twice has not been waited for.
    lasting = [a.zombies & b.zombies & c.zombies for a, b, c in zip(seen, seen[1:], seen[2:], strict=False)]
    faults.check(kind, not any(lasting), f"zombies {sorted(frozenset().union(*lasting))}")
    deadline = time.monotonic() + END_S
    while (left := _marked(f"FEDROBUST_LOAD={folder}".encode())) and time.monotonic() < deadline:
        time.sleep(0.1)
    faults.check(kind, not left, f"processes {left} are left")


def _marked(word: bytes) -> list[int]:
    """Return the processes with this word in their environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if word in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def inject(faults: Faults) -> None:
    """Put the load on."""
    if not Path("/proc/self/smaps_rollup").exists():
        faults.skip("memory", "this system does not say what a process holds")
        return
    many_hospitals(faults, HOSPITALS, ROUNDS)
    many_cells(faults, 24)

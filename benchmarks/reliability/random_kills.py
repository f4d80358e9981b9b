"""Kills of runs and of commands with workers at random moments."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.reliability.children import in_child
from benchmarks.reliability.faulted_run import VALUES, Bench, continued
from benchmarks.reliability.faults import Faults
from benchmarks.reliability.faults_at_writes import LAST_KINDS_S
from fedrobust.results.folder import partial_of

__all__ = ["kill_at_random", "kill_commands"]


def kill_commands(faults: Faults, bench: Bench) -> None:
    """Kill commands with two workers at random moments: the server, a worker, the whole tree."""
    chance = random.Random(1)
    for number, victim in enumerate(("server", "worker", "tree") * 4):
        if faults.seconds_left < LAST_KINDS_S:
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
                wrong = continued(bench, out)
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
        wrong = continued(bench, out)
        faults.check("kill -9 of a run at a random moment", not wrong, f"run {number}: {wrong}")
        shutil.rmtree(out)


def _dying(function: Callable[[], object], delay: float) -> Callable[[], object]:
    """Return the function with a timer that kills its process."""

    def run() -> object:
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, delay)
        return function()

    return run

"""The pool of workers: the same bits as one process, and a dead worker costs one hospital one round."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from federations import tiny

from fedrobust import run
from fedrobust.engines.pool import worker_count

NAMES = ("rounds.jsonl", "verdicts.jsonl", "model.safetensors")


@pytest.mark.parametrize(
    "changes", [{}, {"backbone": "shufflenet_v2_x0_5", "head": "linear", "malicious": 1}]
)
def test_workers_do_not_change_a_bit(tmp_path: Path, changes: dict[str, object]) -> None:
    alone = run(tiny(tmp_path / "1", clients=3, **changes))
    for workers in (2, 3) if not changes else (2,):
        pooled = run(tiny(tmp_path / str(workers), **{"clients": 3, **changes, "workers": workers}))
        for name in NAMES:
            assert (alone.folder / name).read_bytes() == (pooled.folder / name).read_bytes()


def test_a_hospital_that_kills_its_worker_loses_its_round_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients" / "killer.py").write_text(
        "import os, signal\nfrom fedrobust.federation import Attack\n\nclass Killer(Attack):\n"
        "    def poison_update(self, update):\n        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    result = run(tiny(tmp_path, malicious=1, attack="killer", workers=2))
    for line in result.rounds:
        assert [(f["hospital"], f["reason"]) for f in line["faults"]] == [
            (result.malicious[0], "its worker process died")
        ]
    assert len(result.summary["detection"]["weights"]) == 3


def test_a_hospital_that_hangs_loses_its_round_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients" / "sleeper_in_class.py").write_text(
        "import time\nfrom fedrobust.federation import Attack\n\nclass Asleep(Attack):\n"
        "    def poison_update(self, update):\n        time.sleep(1000)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = tiny(tmp_path, malicious=1, attack="sleeper-in-class", workers=2, client_timeout=6)
    result = run(settings)
    for line in result.rounds:
        assert [(f["hospital"], f["reason"]) for f in line["faults"]] == [
            (result.malicious[0], "no answer within 6 s")
        ]
    assert len(result.summary["detection"]["weights"]) == 3
    assert not multiprocessing.active_children()


def alive(group: int) -> list[str]:
    """Return the processes of a group, those that have ended but were not collected left out."""
    listing = subprocess.run(
        ["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 2) for line in listing.splitlines()]
    return [row[2] for row in rows if row[0] == str(group) and not row[1].startswith("Z")]


def test_an_interrupt_leaves_no_process_and_keeps_what_was_done(tmp_path: Path) -> None:
    script = (
        f"from fedrobust import Settings, run\nrun(Settings(rounds=500, workers=2, out={str(tmp_path)!r}))"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", script], stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*.partial/rounds.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.2)
    os.killpg(started.pid, signal.SIGINT)
    asked = time.monotonic()
    started.wait(timeout=20)
    assert time.monotonic() - asked < 10
    (rounds,) = tmp_path.glob("*.partial/rounds.jsonl")
    assert rounds.read_text().endswith("}\n")
    deadline = time.monotonic() + 5
    while alive(started.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert alive(started.pid) == []


def test_a_script_without_a_main_guard_runs(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            from fedrobust import Settings, run
            print("begins")
            result = run(Settings(clients=2, rounds=1, local_epochs=1, networks=1, workers=2,
                                  data="phantom(images=120, size=16)", out={str(tmp_path)!r}))
            print("ends", result.summary["rounds"])
            """
        )
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == ["begins", "ends", "1"]


def test_worker_count(tmp_path: Path) -> None:
    assert worker_count(tiny(tmp_path, workers=8, clients=3)) == 3
    assert worker_count(tiny(tmp_path, workers="auto", clients=1)) == 1
    assert worker_count(tiny(tmp_path, workers="auto", device="cuda:0")) == 1

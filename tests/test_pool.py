"""The pool of workers: the same bits as one process, and a dead worker costs one hospital one round."""

from __future__ import annotations

import subprocess
import sys
import textwrap
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

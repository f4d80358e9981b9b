"""Many runs side by side: the same as one by one, never twice, and no failure reaches another cell."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from federations import tiny

from fedrobust import Settings, UserError, run
from fedrobust.disk.lock import Lock
from fedrobust.engines.launch import warm_up
from fedrobust.scenario import RunIdentity
from fedrobust.suites.cells import run_cells
from fedrobust.suites.progress import Silent

SAME = ("rounds.jsonl", "verdicts.jsonl", "model.safetensors")


#: How a strategy of these tests behaves, for as long as it is broken.
MOODY = """
import os
import time

from fedrobust.federation import Defence, Verdict


class Moody(Defence):
    def __init__(self, mood: str = "none") -> None:
        self.mood = mood

    def weigh(self, updates):
        if not os.path.exists(MENDED):
            if updates.round == 2:
                if self.mood == "raises":
                    raise ZeroDivisionError("out of order")
                if self.mood == "dies":
                    os._exit(7)
                if self.mood == "hangs":
                    time.sleep(600)
            if self.mood != "hangs":
                return Verdict([1.0, 0.0, 0.0, 0.0])
        return Verdict([1.0] * len(updates))
"""


def cell(out: Path, **changes: object) -> Settings:
    return tiny(out, **{"strategy": "fedavg", **changes}).model_copy(update={"workers": "auto"})


@pytest.fixture
def mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the strategy ``moody``; return the file that mends it by being there."""
    monkeypatch.syspath_prepend(str(tmp_path))
    # Another test's module of this name, which this process has loaded.
    monkeypatch.delitem(sys.modules, "strategies.moody", raising=False)
    (tmp_path / "strategies").mkdir()
    file = tmp_path / "mended"
    (tmp_path / "strategies" / "moody.py").write_text(MOODY.replace("MENDED", repr(str(file))))
    return file


def test_cells_equal_single_runs_and_are_not_run_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # One with scikit-learn in it; the others are quick.
    cells = {
        "clean": cell(tmp_path, strategy="isolation-forest"),
        ("flip", 1): cell(tmp_path, malicious=1),
        "flip again": cell(tmp_path / "elsewhere", malicious=1),
        "median": cell(tmp_path, strategy="median"),
    }
    found = run_cells(cells, jobs=2, out=tmp_path / "cells")
    assert list(found) == list(cells)
    assert "3 of 3 done, 0 failed, 0 s left" in capsys.readouterr().err
    for name, made in found.items():
        assert not made.error
        assert made.settings.out == str(tmp_path / "cells")
        alone = run(tiny(tmp_path / "alone", **cells[name].model_dump(include={"malicious", "strategy"})))
        for file in SAME:
            assert (made.folder / file).read_bytes() == (alone.folder / file).read_bytes()
        assert [line.as_json() for line in made.run.rounds] == list(alone.rounds)
        left_out = {"seconds": 0, "run": ""}
        assert {**made.run.summary.as_json(), **left_out} == {**alone.summary, **left_out}
        assert len(made.run.verdicts) == 2
        assert made.run.malicious == frozenset(alone.malicious)
    written = {made.folder: (made.folder / "summary.json").stat().st_mtime_ns for made in found.values()}
    again = run_cells(cells, jobs=2, out=tmp_path / "cells")
    assert {
        made.folder: (made.folder / "summary.json").stat().st_mtime_ns for made in again.values()
    } == written
    assert "3 of 3 cells are finished already" in capsys.readouterr().err


def test_failed_cell_is_noted_and_tried_again(tmp_path: Path, mended: Path) -> None:
    cells = {
        "raises": cell(tmp_path, strategy="moody(mood=raises)"),
        "dies": cell(tmp_path, strategy="moody(mood=dies)"),
        "good": cell(tmp_path),
        "odd": cell(tmp_path, data="lost"),
    }
    found = run_cells(cells, jobs=1, out=tmp_path / "cells", watcher=Silent())
    words = {
        "raises": "fails in round 2: ZeroDivisionError: out of order",
        "dies": "died (exit code 7)",
        "odd": "unknown data source 'lost'",
    }
    notes = {}
    for name, said in words.items():
        notes[name] = found[name].folder.with_name(found[name].folder.name + ".failed.txt")
        assert said in found[name].error and said in notes[name].read_text()
    assert found["good"].error == ""

    mended.touch()
    again = run_cells(cells, jobs=1, out=tmp_path / "cells", watcher=Silent())
    for name in ("raises", "dies"):
        assert again[name].error == "" and not notes[name].exists()
        # No round of the earlier code is left.
        assert [line.weights for line in again[name].run.verdicts] == [(0.25,) * 4] * 2
    assert again["odd"].error


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        ("time.sleep(600)", "no answer within 2 s"),
        # Within the C library, while no Python in this process runs: a mutex that is locked twice.
        (
            "m, c = ctypes.create_string_buffer(64), ctypes.PyDLL(None); "
            + "c.pthread_mutex_lock(m), c.pthread_mutex_lock(m)",
            "no answer within 2 s",
        ),
        ("os._exit(3)", "its worker process died"),
    ],
)
def test_hospital_that_hangs_or_dies_fails_in_its_round_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deed: str, reason: str
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients" / "faulty_in_class.py").write_text(
        "import ctypes\nimport os\nimport time\nfrom fedrobust.federation import Attack\n\n"
        "class Faulty(Attack):\n"
        f"    def poison_update(self, update):\n        {deed}\n"
    )
    faulty = cell(tmp_path / "out", malicious=1, attack="faulty-in-class", client_timeout=2.0)
    done = run_cells({0: faulty}, 1, tmp_path / "out", watcher=Silent())[0]
    assert not done.error
    for line in done.run.rounds:
        assert [(fault.hospital, fault.reason) for fault in line.faults] == [
            (min(done.run.malicious), reason)
        ]


def test_script_without_main_guard_runs_cells(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    values = cell(tmp_path).model_dump(exclude={"malicious", "attack"})
    script.write_text(
        "from pathlib import Path\nfrom fedrobust import Settings\n"
        "from fedrobust.suites.cells import run_cells\n\n"
        f"print('begun')\ncells = {{0: Settings(**{values!r})}}\n"
        f"print('error', repr(run_cells(cells, 1, Path({str(tmp_path)!r}))[0].error))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["begun", "error ''", ""], done.stderr


def start(cells: dict[int, Settings], out: Path) -> None:
    """Run cells one after another, as a script does that somebody kills."""
    run_cells(cells, 1, out, watcher=Silent())


def test_killed_start_keeps_finished_cells_and_resumes(
    tmp_path: Path, mended: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cells"
    plan = [cell(out), cell(out, rounds=3, seed=1, strategy="moody(mood=hangs)")]
    short, long = (RunIdentity.of(settings).folder for settings in plan)
    partial = long.with_name(long.name + ".partial")

    warm_up(plan[0].execution())
    first = multiprocessing.get_context("forkserver").Process(target=start, args=(dict(enumerate(plan)), out))
    first.start()
    until((partial / "checkpoint.safetensors").exists)
    first.kill()
    first.join()
    # The worker goes with its parent, so the cell that it had is free again.
    until(lambda: not Lock.holder(long))
    assert not long.exists()
    written = (short / "summary.json").stat().st_mtime_ns
    timed = (partial / "timings.jsonl").read_text().splitlines()

    mended.touch()
    run_cells(dict(enumerate(plan)), 1, out)
    assert "1 of 2 cells are finished already" in capsys.readouterr().err
    assert (short / "summary.json").stat().st_mtime_ns == written
    assert not partial.exists()
    # It was resumed, not begun again: round 1 has its old times, and the bits are those of an unbroken run.
    timings = (long / "timings.jsonl").read_text().splitlines()
    assert timings[:2] == timed[:2] and [json.loads(line)["round"] for line in timings] == [0, 1, 2, 3]
    unbroken = run(tiny(tmp_path / "alone", rounds=3, seed=1, strategy="moody(mood=hangs)"))
    for file in SAME:
        assert (long / file).read_bytes() == (unbroken.folder / file).read_bytes()


def until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + 60
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_jobs_of_zero_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="jobs is 0"):
        run_cells({"a": cell(tmp_path)}, jobs=0, out=tmp_path)
    assert run_cells({}, jobs=2, out=tmp_path) == {}
    assert os.listdir(tmp_path) == []

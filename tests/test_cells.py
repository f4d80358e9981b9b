"""Many runs side by side: the same as one by one, never twice, and no failure reaches another cell."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from federations import tiny

from benchmarks.cells import run_cells
from fedrobust import Settings, UserError, run
from fedrobust.results.folder import final_folder

SAME = ("rounds.jsonl", "verdicts.jsonl", "model.safetensors")


def cell(out: Path, **changes: object) -> Settings:
    return tiny(out, **changes).model_copy(update={"workers": "auto"})


def strategy_file(folder: Path, body: str) -> None:
    (folder / "strategies").mkdir(exist_ok=True)
    (folder / "strategies" / "moody.py").write_text(
        "import os\nfrom fedrobust.federation import Defence, Verdict\n\n\nclass Moody(Defence):\n"
        "    def weigh(self, updates):\n"
        + textwrap.indent(textwrap.dedent(body), " " * 8)
        + "        return Verdict([1.0] * len(updates))\n"
    )


def test_cells_are_what_run_gives_and_are_not_run_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = {
        "clean": cell(tmp_path),
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
        assert made.rounds == list(alone.rounds)
        assert {**made.summary, "seconds": 0, "run": ""} == {**alone.summary, "seconds": 0, "run": ""}
        assert len(made.verdicts) == 2
        assert made.malicious == alone.malicious
    written = {made.folder: (made.folder / "summary.json").stat().st_mtime_ns for made in found.values()}
    again = run_cells(cells, jobs=2, out=tmp_path / "cells")
    assert {
        made.folder: (made.folder / "summary.json").stat().st_mtime_ns for made in again.values()
    } == written
    assert "3 of 3 cells are finished already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise ZeroDivisionError('out of order')\n", "fails in round 1: ZeroDivisionError: out of order"),
        ("os._exit(7)\n", "died (exit code 7)"),
    ],
)
def test_a_failed_cell_is_kept_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, words: str
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    strategy_file(tmp_path, body)
    cells = {
        "bad": cell(tmp_path, strategy="moody"),
        "good": cell(tmp_path),
        "odd": cell(tmp_path, data="lost"),
    }
    found = run_cells(cells, jobs=1, out=tmp_path / "cells", quiet=True)
    assert words in found["bad"].error
    assert "unknown data source 'lost'" in found["odd"].error
    assert found["good"].error == ""
    note = found["bad"].folder.with_name(found["bad"].folder.name + ".failed.txt")
    assert words in note.read_text()

    strategy_file(tmp_path, "pass\n")
    mended = run_cells(cells, jobs=1, out=tmp_path / "cells", quiet=True)
    assert mended["bad"].error == ""
    assert mended["bad"].summary["rounds"] == 2
    assert not note.exists()
    assert mended["odd"].error


def test_a_failure_leaves_no_round_of_the_old_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    strategy_file(tmp_path, "if updates.round == 2:\n    raise ValueError\nreturn Verdict([1.0, 0, 0, 0])\n")
    cells = {"bad": cell(tmp_path, strategy="moody")}
    assert run_cells(cells, jobs=1, out=tmp_path / "cells", quiet=True)["bad"].error
    strategy_file(tmp_path, "pass\n")
    mended = run_cells(cells, jobs=1, out=tmp_path / "cells", quiet=True)["bad"]
    assert mended.verdicts[0]["weights"] == [0.25] * 4


def test_a_killed_start_loses_nothing_that_was_finished(tmp_path: Path) -> None:
    script = tmp_path / "many.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nfrom benchmarks.cells import run_cells\n"
        "from fedrobust.config import load_settings\n\n"
        "if __name__ == '__main__':\n"
        "    cells = {f: load_settings({}, Path(f)) for f in sys.argv[2:]}\n"
        "    run_cells(cells, 1, Path(sys.argv[1]))\n"
    )
    out = tmp_path / "cells"
    plan = [cell(out), cell(out, rounds=12, seed=1)]
    files = [tmp_path / f"{number}.toml" for number in range(2)]
    for settings, file in zip(plan, files, strict=True):
        said = {key: value for key, value in settings.identity().items() if value is not None}
        file.write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in said.items()))
    command = [sys.executable, str(script), str(out), *map(str, files)]
    short, long = (final_folder(settings) for settings in plan)
    partial = long.with_name(long.name + ".partial")

    first = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=tmp_path)
    until((partial / "checkpoint.safetensors").exists)
    first.kill()
    first.wait()
    # The worker goes with its parent, so the cell that it had is free again.
    until(lambda: free(partial))
    assert not long.exists()
    written = (short / "summary.json").stat().st_mtime_ns

    again = subprocess.run(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, timeout=60, check=True)
    assert "1 of 2 cells are finished already" in again.stderr
    assert (short / "summary.json").stat().st_mtime_ns == written
    assert not partial.exists()
    # It was resumed, not begun again: the start is timed twice, and the bits are those of an unbroken run.
    laps = [json.loads(line)["round"] for line in (long / "timings.jsonl").read_text().splitlines()]
    assert laps.count(0) == 2
    unbroken = run(tiny(tmp_path / "alone", rounds=12, seed=1))
    for file in SAME:
        assert (long / file).read_bytes() == (unbroken.folder / file).read_bytes()


def until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + 60
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.02)


def free(partial: Path) -> bool:
    with (partial / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_no_jobs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="jobs is 0"):
        run_cells({"a": cell(tmp_path)}, jobs=0, out=tmp_path)
    assert run_cells({}, jobs=2, out=tmp_path) == {}
    assert os.listdir(tmp_path) == []

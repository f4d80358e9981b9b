"""The benchmark command: one suite file in, a table and a page out, whatever happens on the way."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedrobust.benchmark import benchmark
from fedrobust.commands.program import run_command

TOP = Path(__file__).resolve().parents[1]
SUITE = """
title = "Small"
seeds = [0, 1]

[base]
data = "phantom(images=240, size=16)"
clients = 4
networks = 1
rounds = 4
local-epochs = 1

[threats]
none = "none"
flip = "label-flip:1"

[defences]
fedavg = "fedavg"
median = "median"
"""
MOODY = """
import os

from fedrobust.federation import Defence, Verdict


class Moody(Defence):
    def weigh(self, updates):
        if not os.path.exists("mended"):
            raise ZeroDivisionError("out of order")
        return Verdict([1.0] * len(updates))
"""


def command(*more: str) -> list[str]:
    return [sys.executable, "-m", "fedrobust.benchmark", *more]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(TOP), "COLUMNS": "80", "FEDROBUST_DATA_ROOT": ""}


def bench(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder of the user's, apart from the project's."""
    return subprocess.run(
        command(*more),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run a suite of one's own folder, by its name; return the folder."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "experiments").mkdir()
    (folder / "experiments" / "small.toml").write_text(SUITE)
    done = bench(folder, "small", "--jobs", "2", "--parquet", "out.parquet", "--latex", "out.tex")
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout)
    (folder / "stderr").write_text(done.stderr)
    return folder


@pytest.mark.slow
def test_suite_gives_a_table_a_page_and_its_definition(unbroken: Path) -> None:
    made = unbroken / "runs" / "suites" / "small"
    assert {file.name for file in made.iterdir()} == {
        *("suite.json", "costs.json", "small.toml", "table.csv", "report.html", "SHA256SUMS")
    }
    table = rows(made / "table.csv")
    assert [(row["threat"], row["defence"]) for row in table] == [
        ("none", "fedavg"),
        ("none", "median"),
        ("flip", "fedavg"),
        ("flip", "median"),
    ]
    content = json.loads((made / "suite.json").read_text())
    for row, line in zip(table, content["rows"], strict=True):
        assert float(row["accuracy"]) == line["metrics"]["accuracy"]["mean"]
        assert line["seeds"] == [0, 1]
        for cell in line["cells"]:
            run = made / cell["run"]
            assert (run / "report.html").is_file() and (run / "summary.json").is_file()
    # What repeats it: the definition, beside which the command runs.
    assert content["command"] == "python -m fedrobust.benchmark small.toml"
    assert (made / "small.toml").read_text() == content["definition"] == SUITE
    stdout = (unbroken / "stdout").read_text()
    assert "fedavg" in stdout and "median" in stdout and "report.html" in stdout
    assert max(len(line) for line in stdout.splitlines() if "runs/suites" not in line) <= 80
    assert "8 of 8 done, 0 failed" in (unbroken / "stderr").read_text()
    assert (unbroken / "out.parquet").is_file() and "tabular" in (unbroken / "out.tex").read_text()


@pytest.mark.slow
def test_finished_runs_are_kept(unbroken: Path) -> None:
    made = unbroken / "runs" / "suites"
    before = {file: file.stat().st_mtime_ns for file in made.glob("cells/*/summary.json")}
    again = bench(unbroken, "small", "--quiet", "--json")
    assert again.returncode == 0 and json.loads(again.stdout) == json.loads(
        (made / "small" / "suite.json").read_text()
    )
    assert {file: file.stat().st_mtime_ns for file in made.glob("cells/*/summary.json")} == before
    # Nothing is left to do but one cell that is asked for again.
    fresh = bench(
        unbroken, "small", "--fresh", "--only", "threat=flip", "--only", "defence=median", "--only", "seed=1"
    )
    assert fresh.returncode == 0 and "1 of 2 done" in fresh.stderr
    after = {file: file.stat().st_mtime_ns for file in made.glob("cells/*/summary.json")}
    assert sum(after[file] != before[file] for file in before) == 2


@pytest.mark.slow
def test_command_killed_at_any_moment_ends_with_the_same_bytes(unbroken: Path, tmp_path: Path) -> None:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "small.toml").write_text(SUITE)
    draw = random.Random(5)
    for _ in range(3):
        process = subprocess.Popen(
            command("small", "--jobs", "2", "--quiet"),
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(draw.uniform(2.0, 7.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = bench(tmp_path, "small", "--quiet")
    assert done.returncode == 0, done.stderr
    for name in ("table.csv", "suite.json"):
        ours, theirs = (folder / "runs" / "suites" / "small" / name for folder in (tmp_path, unbroken))
        assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.slow
def test_failed_cell_is_named_and_tried_again(tmp_path: Path) -> None:
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "moody.py").write_text(MOODY)
    text = SUITE.replace('median = "median"', 'moody = "moody"').replace("[0, 1]", "[0]")
    (tmp_path / "mine.toml").write_text(text)
    done = bench(tmp_path, "mine.toml")
    assert done.returncode == 1
    assert "FAILED" in done.stderr and "out of order" in done.stdout
    made = tmp_path / "runs" / "suites" / "mine"
    missing = json.loads((made / "suite.json").read_text())["missing"]
    assert [line["labels"]["defence"] for line in missing] == ["moody", "moody"]
    assert all("ZeroDivisionError: out of order" in line["error"] for line in missing)
    assert {row["defence"]: row["accuracy"] for row in rows(made / "table.csv")}["moody"] == ""
    (tmp_path / "mended").touch()
    again = bench(tmp_path, "mine.toml")
    assert again.returncode == 0, again.stderr
    assert json.loads((made / "suite.json").read_text())["missing"] == []


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(SUITE)
    done = bench(
        tmp_path, "mine.toml", "--dry-run", "--only", "threat=flip", "--set", "rounds=2", "--seeds", "0,4"
    )
    assert done.returncode == 0, done.stderr
    assert "4 cells and 4 clean baselines; 0 of 8 runs finished" in done.stdout and "about" in done.stdout
    assert os.listdir(tmp_path) == ["mine.toml"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["quik"], ["no suite 'quik'", "'quick'"]),
        (["absent.toml"], ["absent.toml", "cannot be read"]),
        (["mine.toml", "--only", "defense=median"], ["--only defense=median", "'defence'"]),
        (["mine.toml", "--set", "rounds"], ["--set 'rounds'", "KEY=VALUE"]),
        (["mine.toml", "--set", "rouns=3"], ["--set rouns", "'rounds'"]),
        (["mine.toml", "--set", "rounds=0"], ["rounds", "an integer in [1, 100000]"]),
        (["mine.toml", "--seeds", "0;1"], ["--seeds '0;1'"]),
        (["mine.toml", "--seeds", "1,1"], ["seeds", "distinct"]),
        (["mine.toml", "--jobs", "0"], ["--jobs"]),
        (["mine.toml", "--csv", "no/such/table.csv"], ["no/such/table.csv", "cannot be written"]),
        (["mine.toml", "--data", "medmnist:lost"], ["--data-root"]),
        (["mine.toml", "--data", "medmnist:lost", "--data-root", "."], ["lost.npz"]),
        (["mine.toml", "--ray-address", "127.0.0.1:1"], ["--ray-address 127.0.0.1:1", "no Ray cluster"]),
        (["mine.toml", "--metric", "acuracy"], ["'acuracy'", "'accuracy'"]),
        (["cells.toml"], ["cannot be called 'cells'"]),
        (["mine.toml", "--resum"], ["--resum", "--resume"]),
    ],
)
def test_mistake_on_the_command_line_is_one_sentence(
    tmp_path: Path,
    arguments: list[str],
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("mine", "cells"):
        (tmp_path / f"{name}.toml").write_text(SUITE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDROBUST_DATA_ROOT", raising=False)
    with pytest.raises(SystemExit) as left:
        run_command(benchmark, arguments)
    stdout, stderr = capsys.readouterr()
    assert left.value.code == 2, stderr
    assert stderr.count("\n") == 1 and stdout == ""
    for word in words:
        assert word in stderr


def test_command_without_a_suite_lists_suites_only(tmp_path: Path) -> None:
    done = bench(tmp_path)
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "ablation",
        "budget",
        "defences",
        "detection",
        "model_robustness",
        "model_robustness_full",
        "newest",
        "newest_sampled",
        "quick",
        "sanitize",
        "synthesis",
        "windows",
    ]

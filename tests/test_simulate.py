"""`fedrobust simulate`: existing and interrupted runs, clean baseline, exit codes; `fedrobust compare`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedrobust.commands import program
from fedrobust.errors import RunInterrupted
from fedrobust.runtime import runner
from fedrobust.runtime.observers import Observer

SMALL = ["--clients", "3", "--rounds", "1", "--local-epochs", "1", "--networks", "1", "--workers", "1"]
SMALL += ["--strategy", "fedavg"]
PHANTOM = ["--data", "phantom(images=120, size=16)"]


def call(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run `fedrobust simulate ...` in this process; return the exit code and both streams."""
    with pytest.raises(SystemExit) as left:
        program.main(["simulate", *SMALL, *arguments])
    out, err = capfd.readouterr()
    return int(left.value.code or 0), out, err


def test_same_settings_again_show_the_existing_run_and_fresh_runs_it_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = [*PHANTOM, "--out", str(tmp_path)]
    _, first, _ = call(arguments, capfd)
    (folder,) = tmp_path.iterdir()
    before = (folder / "summary.json").stat().st_mtime_ns
    code, again, err = call(arguments, capfd)
    assert code == 0 and again == first
    assert "these settings were run before" in err and "--fresh runs it again" in err
    assert (folder / "summary.json").stat().st_mtime_ns == before
    code, _, err = call([*arguments, "--fresh"], capfd)
    assert code == 0 and "were run before" not in err
    assert (folder / "summary.json").stat().st_mtime_ns != before


def images(file: Path, seed: int) -> None:
    draw = np.random.default_rng(seed)
    labels = np.arange(60)[:, None] % 2
    np.savez(file, train_images=draw.integers(0, 256, (60, 16, 16), dtype=np.uint8), train_labels=labels)


def test_run_of_other_data_is_not_shown_and_a_missing_file_comes_first(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for site in ("a", "b"):
        (tmp_path / site).mkdir()
        images(tmp_path / site / "mine.npz", seed=ord(site))
    arguments = ["--data", "medmnist:mine", "--out", str(tmp_path / "runs"), "--data-root"]
    call([*arguments, str(tmp_path / "a")], capfd)
    _, _, err = call([*arguments, str(tmp_path / "a")], capfd)
    assert "these settings were run before" in err
    _, _, err = call([*arguments, str(tmp_path / "b")], capfd)
    assert "the data have changed since this run; running again" in err
    code, _, err = call([*arguments, str(tmp_path / "nowhere")], capfd)
    assert code == 2 and str(tmp_path / "nowhere") in err and err.count("\n") == 1


def test_run_of_another_version_of_an_own_plug_in_is_not_shown(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    rule = tmp_path / "own_rule.py"
    rule.write_text(
        "from fedrobust.federation import Defence, Verdict\n\n\nclass Own(Defence):\n"
        '    """Weighs by length."""\n\n'
        "    def weigh(self, updates):\n        return Verdict(updates.norms())\n"
    )
    arguments = [*PHANTOM, "--strategy", "own_rule:Own", "--out", str(tmp_path / "runs")]
    call(arguments, capfd)
    _, _, err = call(arguments, capfd)
    assert "these settings were run before" in err
    rule.write_text(rule.read_text().replace("by length", "by the length"))
    _, _, err = call(arguments, capfd)
    assert "the source of own_rule:Own has changed since this run; running again" in err


def test_baseline_says_first_what_was_lost_to_the_attack(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    threats = ["--threat", "label-flip:1", "--threat", "single-class:1"]
    arguments = [*PHANTOM, *threats, "--baseline", "--out", str(tmp_path)]
    code, out, err = call(arguments, capfd)
    assert code == 0 and out.startswith("Lost to the attack: ")
    assert "atypical hospitals are drawn before malicious ones" in err
    runs = {folder: json.loads((folder / "summary.json").read_text()) for folder in tmp_path.iterdir()}
    (attacked,) = [folder for folder, summary in runs.items() if summary["malicious"]]
    (clean,) = [folder for folder in runs if folder != attacked]
    assert runs[attacked]["atypical"] == runs[clean]["atypical"] != []
    assert runs[attacked]["baseline"]["run"] == clean.name
    lost = runs[clean]["clean"]["accuracy"] - runs[attacked]["clean"]["accuracy"]
    assert runs[attacked]["lost_to_attack"]["accuracy"] == pytest.approx(lost)
    assert "lost to the attack" in (attacked / "report.html").read_text().lower()


def test_interrupted_run_says_what_is_kept_and_the_command_that_resumes_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [*PHANTOM, "--rounds", "2", "--out", "my runs"]
    real = runner.run

    class Interrupt(Observer):
        def round_done(self, outcome: Any) -> None:
            raise KeyboardInterrupt

    def interrupted(settings: Any, observers: Any, **more: Any) -> Any:
        return real(settings, [*observers, Interrupt()], **more)

    monkeypatch.setattr(runner, "run", interrupted)
    code, out, err = call(arguments, capfd)
    monkeypatch.setattr(runner, "run", real)
    (partial,) = (tmp_path / "my runs").iterdir()
    command = f"fedrobust simulate --resume 'my runs/{partial.name}'"
    assert code == 130 and out == ""
    assert err.splitlines()[-1] == f"fedrobust: interrupted; round 1 is kept; resume with: {command}"
    copied = shutil.copytree(partial, tmp_path / "copy")
    with pytest.raises(SystemExit) as left:
        program.main(["simulate", "--resume", f"my runs/{partial.name}"])
    assert left.value.code == 0 and not partial.exists()
    # Without --resume an unfinished run starts again, and a note says so.
    shutil.rmtree(partial.with_suffix(""))
    shutil.copytree(copied, partial)
    capfd.readouterr()
    _, _, err = call(arguments, capfd)
    assert "held an unfinished run of these settings, which starts again" in err


def test_interruption_before_the_first_round_says_that_nothing_is_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise RunInterrupted(tmp_path, 0)

    monkeypatch.setattr(runner, "run", interrupted)
    code, _, err = call([*PHANTOM, "--out", str(tmp_path)], capfd)
    assert (
        code == 130 and err == "fedrobust: interrupted before the first round was complete; nothing is kept\n"
    )


def test_run_in_which_every_hospital_fails_is_said_first_and_exits_with_1(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "breaking.py").write_text(
        "from fedrobust.federation import Attack\n\n\nclass Breaking(Attack):\n"
        '    """Breaks."""\n\n    def poison_update(self, update):\n        raise RuntimeError("no")\n'
    )
    threat = ["--malicious", "3", "--attack", "breaking:Breaking"]
    code, out, _ = call([*PHANTOM, *threat, "--out", str(tmp_path / "runs")], capfd)
    assert code == 1 and out.startswith("All hospitals failed in every round, so the model is untrained")


def test_compare_shows_settings_that_differ_and_differences_of_metrics(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    for seed in ("0", "1"):
        call([*PHANTOM, "--seed", seed, "--out", str(tmp_path / seed)], capfd)
    folders = [str(next((tmp_path / seed).iterdir())) for seed in ("0", "1")]
    with pytest.raises(SystemExit) as left:
        program.main(["compare", *folders])
    out, _ = capfd.readouterr()
    assert left.value.code == 0
    assert f"A: {folders[0]}" in out and f"B: {folders[1]}" in out
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in out.splitlines() if "│" in line]
    assert ["seed", "0", "1"] in rows
    (accuracy,) = [row for row in rows if row[0] == "accuracy"]
    assert float(accuracy[3]) == pytest.approx(float(accuracy[2]) - float(accuracy[1]), abs=2e-3)
    assert "The seeds differ" in out

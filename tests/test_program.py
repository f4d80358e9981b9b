"""The command line as a user meets it: words, exit codes, and what reaches which stream."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fedrobust.federation
from fedrobust.commands import program
from fedrobust.errors import UserError
from fedrobust.settings import SYNONYMS, Settings, load_settings

QUICK = ["--clients", "3", "--rounds", "1", "--local-epochs", "1", "--networks", "1", "--workers", "1"]
QUICK += ["--data", "phantom(images=120, size=16)"]


def call(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run `fedrobust ...` in this process; return the exit code and both streams."""
    with pytest.raises(SystemExit) as left:
        program.main(arguments)
    out, err = capfd.readouterr()
    return int(left.value.code or 0), out, err


def test_json_is_alone_on_stdout(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    # The plain mean, as a note names a defence that has nothing to do.
    code, out, err = call(
        ["simulate", *QUICK, "--strategy", "fedavg", "--json", "--out", str(tmp_path)], capfd
    )
    assert code == 0
    assert json.loads(out)["clients"] == 3
    assert err == ""


def test_simulate_prints_tables_and_the_run_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(["simulate", *QUICK, "--malicious", "1", "--out", str(tmp_path)], capfd)
    assert code == 0
    for word in (
        "accuracy",
        "macro F1",
        "macro precision",
        "combined drop",
        "synthetic",
        "Malicious hospitals",
    ):
        assert word in out
    folder = re.search(r"Run folder: (.+)", out)
    assert folder and (Path(folder[1]) / "summary.json").is_file()
    assert "3 hospitals, 1 of them malicious" in err


def test_quiet_prints_nothing_on_stderr_but_notes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["simulate", *QUICK, "--quiet", "--out", str(tmp_path)]
    _, out, err = call([*arguments, "--strategy", "fedavg"], capfd)
    assert err == "" and "combined drop" in out
    # But for a note, in one line.
    _, _, err = call([*arguments, "--strategy", "trimmed-mean(f=0)"], capfd)
    assert (
        err.startswith("fedrobust: note: strategy 'trimmed-mean(f=0)' had no effect") and err.count("\n") == 1
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rounds", "0"], "--rounds"),
        (["--malicious", "11"], "malicious = 11 is more than clients = 10"),
        (["--strategy", "isolation-forst"], "did you mean 'isolation-forest'"),
        (["--malicious", "1", "--attack", "backdor"], "did you mean 'backdoor'"),
        (["--data", "medmnist"], "medmnist:"),
        (["--stratgy", "fedavg"], "did you mean '--strategy'"),
        (["--rounds"], "--rounds"),
        (["--config", "nowhere.toml"], "nowhere.toml"),
        (["--head", "etf-rct"], "did you mean 'etf-rect'"),
        (["surplus"], "surplus"),
    ],
)
def test_mistake_is_one_sentence_and_exit_code_2(
    arguments: list[str], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(["simulate", *arguments], capfd)
    assert code == 2
    assert words in err
    assert out == "" and err.count("\n") == 1 and err.startswith("fedrobust: ")


def test_unknown_command_is_one_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(["simulat"], capfd)
    assert code == 2 and "simulat" in err and err.count("\n") == 1


def test_every_setting_has_a_flag_with_its_default(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(["simulate", "--help"], capfd)
    assert code == 0
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')} " in out
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            assert str(field.default) in out


def test_help_of_simulate_shows_every_setting_in_a_panel(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = call(["simulate", "--help"], capfd)
    panels = {
        part.splitlines()[0].strip(" ─╮"): set(re.findall("(?m)^│ [*]? *--([a-z-]+)", part))
        for part in out.split("╭─")[1:]
    }
    named = {name.replace("_", "-") for name in Settings.model_fields}
    assert code == 0 and not panels["Options"] & named and "config" in panels["Options"]
    assert named == set().union(*panels.values()) - panels["Options"]
    assert len(panels) == 9 and {"patience", "server-lr"} & panels["Training"] == {"patience"}


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom fedrobust.commands import program\n"
        "try:\n    program.main(['simulate', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'flwr', 'sklearn', 'ray', 'pandas', 'torchvision'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "HEAVY []"


@pytest.mark.parametrize(
    ("flag", "meant"),
    [
        ("--defence", "--strategy"),
        ("--defense", "--strategy"),
        ("--model", "--backbone"),
        ("--attackers", "--malicious"),
        ("--learning-rate", "--lr"),
        ("--num_clients", "--clients"),
        ("--gpu", "--device"),
    ],
)
def test_flag_of_another_tool_names_the_one_that_is_meant(
    flag: str, meant: str, capfd: pytest.CaptureFixture[str]
) -> None:
    code, _, err = call(["simulate", flag, "1"], capfd)
    assert code == 2 and f"did you mean '{meant}'?" in err


def test_synonyms_stand_for_settings_and_none_is_one() -> None:
    settings = {name.replace("_", "-") for name in Settings.model_fields}
    assert set(SYNONYMS.values()) <= settings and not settings & SYNONYMS.keys()


def test_synonym_in_a_settings_file_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("n-clients = 3\n")
    with pytest.raises(UserError, match="did you mean 'clients'"):
        load_settings({}, tmp_path / "own.toml")


def test_config_takes_a_run_folder_and_expands_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run").mkdir()
    code, _, err = call(["simulate", "--config", "~/run"], capfd)
    assert code == 2 and "run: holds no settings.toml" in err
    (tmp_path / "run" / "settings.toml").write_text("clients = 3\nrounds = 0\n")
    code, _, err = call(["simulate", "--config", "~/run"], capfd)
    assert code == 2 and "settings.toml" in err and "rounds 0" in err
    assert load_settings({"rounds": "1"}, Path("~/run")).clients == 3


def test_data_root_of_the_environment_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FEDROBUST_DATA_ROOT", str(tmp_path / "images"))
    code, _, err = call(["simulate", "--data", "medmnist:mine"], capfd)
    assert code == 2 and str(tmp_path / "images") in err


def test_version_is_printed_alone(capfd: pytest.CaptureFixture[str]) -> None:
    assert call(["--version"], capfd) == (0, f"fedrobust {fedrobust.__version__}\n", "")


def test_completion_offers_flags() -> None:
    script = Path(sys.executable).with_name("fedrobust")
    asked = {"_FEDROBUST_COMPLETE": "complete_bash", "COMP_CWORD": "2"}
    environment = os.environ | asked | {"COMP_WORDS": "fedrobust simulate --strat"}
    done = subprocess.run(
        [str(script)], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == ["--strategy"]


def test_package_lists_its_public_names() -> None:
    assert {"Result", "Settings", "UserError", "attack", "run", "strategy"} <= set(dir(fedrobust))
    assert all(getattr(fedrobust, name) is not None for name in dir(fedrobust))
    assert "Records" in dir(fedrobust.federation)


def test_list_names_everything_with_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(["list"], capfd)
    assert code == 0
    for name in (
        "label-flip",
        "image-noise",
        "backdoor",
        "isolation-forest",
        "feddetect",
        "fedavg",
        "phantom",
        "dirichlet",
    ):
        assert re.search(rf"^  {name} +\S", out, re.MULTILINE), name


def test_strategy_in_an_otherwise_empty_folder_is_found_and_listed(tmp_path: Path) -> None:
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "my_mean.py").write_text(
        "from fedrobust.federation import Defence, Updates, Verdict\n\n\n"
        'class MyMean(Defence):\n    """Weighs all hospitals alike."""\n\n'
        "    def weigh(self, updates: Updates) -> Verdict:\n"
        "        return Verdict(weight=[1.0] * len(updates))\n"
    )
    script = Path(sys.executable).with_name("fedrobust")
    run = [str(script), "simulate", *QUICK, "--strategy", "my-mean", "--json"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["detection"]["weights"]) == 3
    listed = subprocess.run(
        [str(script), "list"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert re.search(r"my-mean +Weighs all hospitals alike\.", listed.stdout)


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"],
        ["list", "attacks"],
        ["list", "label-flip"],
        ["--help"],
        ["simulate", "--help"],
        ["deploy-local", "--help"],
    ],
)
def test_help_and_list_fit_into_80_columns(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = call(arguments, capfd)
    assert code == 0 and max(map(len, out.splitlines())) <= 80
    # Neither cut off nor of a type that is said twice.
    assert "…" not in out and not re.search(r"\b([A-Z]+)\|\1\b", out)

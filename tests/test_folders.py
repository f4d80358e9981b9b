"""A working folder may hold modules of any name: it is searched last, and for plug-ins only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedrobust.engines.launch import SAFE_PATH
from fedrobust.plugins.folders import HOME, PluginFolders, add_working_folder, search_path

SHADOWS = (
    *("statistics", "queue", "html", "numpy", "torch", "csv", "random", "secrets", "tempfile", "logging"),
    *("pydantic", "flwr", "rich", "yaml", "strategies"),
)
STRATEGY = '''
import os

import my_helper
from fedrobust.federation import Defence, Updates, Verdict


class MyMean(Defence):
    """Weighs all hospitals alike."""

    def weigh(self, updates: Updates) -> Verdict:
        return Verdict(weight=[my_helper.one()] * len(updates))
'''


@pytest.fixture
def crowded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working folder with modules named like the library's and others', and packages like ours."""
    for name in SHADOWS:
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('{name}.py of the working folder')\n")
    for name in ("clients", "experiments"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('a package of another program')\n")
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "my_mean.py").write_text(STRATEGY)
    (tmp_path / "my_helper.py").write_text("def one():\n    return 1.0\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments], capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.slow
def test_run_in_a_crowded_folder_uses_the_own_strategy_and_nothing_else_of_it(crowded: Path) -> None:
    done = run(
        ["fedrobust.simulate", "--clients", "3", "--rounds", "1", "--local-epochs", "1", "--networks", "1",
         "--workers", "2", "--data", "phantom(images=120, size=16)", "--strategy", "my-mean", "--attack",
         "sign-flip", "--malicious", "1"],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Final weight of the malicious: 0.333" in done.stdout and "failed" not in done.stderr


def test_lists_in_a_crowded_folder_name_everything(crowded: Path) -> None:
    done = run(["fedrobust", "list", "strategies"])
    assert done.returncode == 0, done.stderr
    assert "my-mean" in done.stdout and "isolation-forest" in done.stdout
    done = run(["fedrobust.benchmark", "quick", "--dry-run"])
    assert done.returncode == 0 and "runs finished" in done.stdout, done.stderr


def test_working_folder_is_the_last_on_the_search_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder])
    monkeypatch.chdir(tmp_path)
    add_working_folder()
    assert sys.path[-1] == search_path().split(os.pathsep)[-1] == str(tmp_path)


def test_folders_follow_the_search_path_with_the_built_in_one_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = PluginFolders("strategies")
    built_in = str(HOME / "strategies")
    assert folders[-1] == built_in
    (tmp_path / "strategies").mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    assert list(folders)[-2:] == [str(tmp_path / "strategies"), built_in]
    # A suite is no module: a package may hold some.
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "__init__.py").touch()
    assert str(tmp_path / "experiments") in PluginFolders("experiments")


def test_processes_that_are_started_are_not_bound_by_our_safe_path() -> None:
    code = (
        "import os\nfrom fedrobust.engines.launch import warm_up\n"
        "from fedrobust.settings.execution import Execution\n"
        "warm_up(Execution(2, workers=2))\n"
        f"print(os.environ.get('{SAFE_PATH}'))"
    )
    environment = {key: value for key, value in os.environ.items() if key != SAFE_PATH}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, timeout=60
    )
    assert done.stdout.split() == ["None"]

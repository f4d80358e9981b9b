"""Flower's runtimes: simulation on Ray, and `flwr run`; the same bits as the local engine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
from federations import TRAINING_OPTIONS, tiny

from fedrobust import UserError, run

TOP = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {**TRAINING_OPTIONS, "networks": 2, "clients": 2},
        {"networks": 2, "task": "synthesis(latent=4, width=4)", "clients": 2},
    ],
    ids=["two networks and training options", "synthesis"],
)
def test_the_simulation_runtime_gives_the_same_bits(tmp_path: Path, options: dict[str, Any]) -> None:
    attack, both = "label-flip + poisoned-fl", {"malicious": 1, "workers": 2}
    local, flower = (
        run(tiny(tmp_path / engine, engine=engine, attack=attack, **both, **options))
        for engine in ("local", "flower")
    )
    names = ("rounds.jsonl", "verdicts.jsonl", "client_metrics.jsonl", "evaluation.json")
    for name in (*names, "examples.safetensors", "model.safetensors"):
        assert (local.folder / name).read_bytes() == (flower.folder / name).read_bytes()


@pytest.mark.slow
def test_mistake_inside_the_server_thread_is_raised(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean"):
        run(tiny(tmp_path, engine="flower", strategy="fedavvg"))


@pytest.mark.slow
def test_sigterm_ends_a_run_of_the_flower_engine_as_ctrl_c_does(tmp_path: Path) -> None:
    options = {
        "--engine": "flower",
        "--workers": "1",
        "--clients": "2",
        "--networks": "1",
        "--out": str(tmp_path),
    }
    command = [
        sys.executable,
        "-m",
        "fedrobust.simulate",
        "--data",
        "phantom(images=240, size=16)",
        "--quiet",
    ]
    command += ["--local-epochs", "500", *(word for option in options.items() for word in option)]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*.partial/timings.jsonl")):
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    running.terminate()
    # 3 s on an idle machine.
    _, errors = running.communicate(timeout=30)
    assert running.returncode == 130, errors
    (kept,) = tmp_path.glob("*.partial")
    assert (kept / "settings.toml").is_file()


def test_the_app_packs_settings_only_so_that_the_installed_package_runs() -> None:
    from flwr.cli.build import get_filtered_fab_paths

    files: dict[str, bytes | Path] = {
        str(file.relative_to(TOP)): file
        for name in ("fedrobust", "strategies", "LICENSE")
        for file in ([TOP / name] if (TOP / name).is_file() else (TOP / name).rglob("*.*"))
    }
    config = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))
    assert get_filtered_fab_paths(files, config) == ["LICENSE"]


@pytest.mark.slow
def test_flwr_run(tmp_path: Path) -> None:
    """`flwr run .` with a run config of its own, on a copy of the project and a Flower home of its own."""
    project = tmp_path / "project"
    project.mkdir()
    for name in ("fedrobust", "clients", "strategies", "experiments"):
        shutil.copytree(TOP / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(TOP / name, project)
    home = tmp_path / "home"
    environment = {
        **os.environ,
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    out = tmp_path / "out"
    settings = 'clients=4 malicious=1 rounds=2 local-epochs=1 networks=1 data="phantom(images=240, size=16)"'
    settings += f' out="{out}"'
    try:
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("flwr")),
                "run",
                str(project),
                "--stream",
                "--run-config",
                settings,
            ],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        (folder,) = out.iterdir()
        assert (folder / "report.html").is_file()
        local = run(tiny(tmp_path / "local", malicious=1))
        assert folder.name == local.folder.name
        for name in ("rounds.jsonl", "model.safetensors"):
            assert (local.folder / name).read_bytes() == (folder / name).read_bytes()
    finally:
        # Flower leaves its local SuperLink running for the next run; it is found by its home.
        subprocess.run(["pkill", "-f", str(home)], check=False)

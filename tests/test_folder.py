"""Run folders: partial until complete, never lost, never shared."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from federations import tiny
from safetensors import safe_open

from fedrobust.errors import UserError
from fedrobust.results.files import plain
from fedrobust.results.folder import RunFolder
from fedrobust.scenario import RunIdentity


def test_run_folder_is_final_only_when_complete(tmp_path: Path) -> None:
    settings = tiny(tmp_path)
    folder = RunFolder(RunIdentity.of(settings))
    folder.append("rounds.jsonl", {"round": 1})
    assert not RunIdentity.of(settings).folder.exists()
    assert folder.finish() == RunIdentity.of(settings).folder
    assert (RunIdentity.of(settings).folder / "rounds.jsonl").read_text() == '{"round": 1}\n'
    assert [f.name for f in tmp_path.iterdir()] == [RunIdentity.of(settings).folder.name]


def test_run_folder_of_an_unfinished_rerun_leaves_the_finished_one(tmp_path: Path) -> None:
    settings = tiny(tmp_path)
    first = RunFolder(RunIdentity.of(settings))
    first.write_text("note", "first")
    first.finish()
    second = RunFolder(RunIdentity.of(settings))
    second.write_text("note", "second")
    assert (RunIdentity.of(settings).folder / "note").read_text() == "first"
    second.release()
    third = RunFolder(RunIdentity.of(settings))
    assert not (third.partial / "note").exists()
    third.write_text("note", "third")
    third.finish()
    assert (RunIdentity.of(settings).folder / "note").read_text() == "third"


def test_run_folder_is_not_shared_by_two_processes(tmp_path: Path) -> None:
    settings = tiny(tmp_path)
    folder = RunFolder(RunIdentity.of(settings))
    code = (
        "import sys; from fedrobust.settings import load_settings; from pathlib import Path\n"
        "from fedrobust.results.folder import RunFolder; from fedrobust.scenario import RunIdentity\n"
        "from fedrobust.errors import UserError\n"
        "try:\n    RunFolder(RunIdentity.of(load_settings({}, Path(sys.argv[1]))))\n"
        "except UserError as error:\n    print(error)"
    )
    arguments = [sys.executable, "-c", code, str(folder.partial / "settings.toml")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=60)
    assert "another process" in done.stdout
    folder.release()


def test_settings_file_can_be_read_back(tmp_path: Path) -> None:
    settings = tiny(tmp_path, malicious=1, attack="backdoor(place='center')")
    table = tomllib.loads((RunFolder(RunIdentity.of(settings)).partial / "settings.toml").read_text())
    assert table["attack"] == "backdoor(place='center')"
    assert table["local-epochs"] == 1
    assert "image-size" not in table


def test_run_folder_name_is_safe_and_holds_the_seed(tmp_path: Path) -> None:
    settings = tiny(tmp_path, malicious=1, strategy="a.b:C(x='/ö?')", attack="backdoor + label-flip")
    name = RunIdentity.of(settings).folder.name
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_")
    assert name.endswith(f"-seed0-{settings.digest()}")


def test_file_with_a_torn_line_is_cut_to_the_completed_rounds(tmp_path: Path) -> None:
    folder = RunFolder(RunIdentity.of(tiny(tmp_path)))
    file = folder.partial / "client_metrics.jsonl"
    for number in (1, 2):
        folder.append(file.name, {"round": number})
    stated = folder.written_lines()
    folder.append(file.name, {"round": 3})
    folder.append("timings.jsonl", {"round": 3})
    with file.open("a") as more:
        more.write('{"rou')
    folder.cut_lines(stated)
    assert file.read_text() == '{"round": 1}\n{"round": 2}\n'
    assert not (folder.partial / "timings.jsonl").exists()
    file.write_text('{"round": 1}\n{"round": 3}\n')
    with pytest.raises(ValueError, match="not what it was"):
        folder.cut_lines(stated)
    folder.release()


def test_model_file_is_the_same_bytes_for_any_order(tmp_path: Path) -> None:
    folder = RunFolder(RunIdentity.of(tiny(tmp_path)))
    tensors = {name: np.ones((2, 2), np.float32) for name in "zxyab"}
    folder.write_model(tensors, {"classes": ("a", "b"), "seed": 1})
    first = (folder.partial / "model.safetensors").read_bytes()
    folder.write_tensors(
        "model.safetensors", dict(reversed(tensors.items())), {"seed": 1, "classes": ("a", "b")}
    )
    assert (folder.partial / "model.safetensors").read_bytes() == first
    with safe_open(folder.partial / "model.safetensors", framework="numpy") as file:
        assert json.loads(file.metadata()["fedrobust"]) == {"classes": ["a", "b"], "seed": 1}


def test_run_folder_that_cannot_be_made_is_one_sentence() -> None:
    with pytest.raises(UserError, match="--out '/proc/nowhere'"):
        RunFolder(RunIdentity.of(tiny(Path("/proc/nowhere"))))


def test_plain_gives_json_values() -> None:
    got = plain({1: np.float32(0.5), "a": (float("nan"), np.array([1, 2])), "b": {3}, "c": np.bool_(True)})
    assert got == {"1": 0.5, "a": [None, [1, 2]], "b": [3], "c": True}
    json.dumps(got, allow_nan=False)

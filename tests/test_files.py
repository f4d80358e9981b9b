"""The files of runs and suites: written aside and renamed, read with one sentence for damage."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import numpy as np
import pytest

from fedrobust.errors import UserError
from fedrobust.results.files import append_line, read_lines, read_record, read_text, write_json, write_text
from fedrobust.results.records import Metrics, RoundLine, TimingLine, VerdictLine

PACKAGE = Path(__file__).resolve().parents[1] / "fedrobust"


def test_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "summary.json"
    write_text(file, "old")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(file, "new")
    assert file.read_text() == "old" and os.listdir(tmp_path) == [file.name]


def test_record_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    line = RoundLine.of(
        round=np.int64(3),
        lr=0.001,
        clean={"accuracy": np.float32(0.5), "loss": float("nan"), "sensitivity": [0.5, None]},
        hospital_accuracy=(0.5, None),
        faults=[{"hospital": 1, "reason": "no reply in 5 s"}],
        own_metric=2.5,
    )
    assert (line.round, line.clean.accuracy, line.clean.loss) == (3, 0.5, None)
    append_line(tmp_path / "rounds.jsonl", line)
    append_line(tmp_path / "rounds.jsonl", line)
    assert read_lines(tmp_path / "rounds.jsonl", RoundLine) == (line, line)
    assert line.as_json()["own_metric"] == 2.5


def test_record_with_keys_that_are_numbers_is_read_back(tmp_path: Path) -> None:
    verdict = VerdictLine(
        round=1, hospitals=(0, 4), weights=(0.25, 0.75), scores=(0.5, 5.4), why={4: "z-score 5.4"}
    )
    write_json(tmp_path / "verdict.json", verdict)
    assert read_record(tmp_path / "verdict.json", VerdictLine) == verdict
    assert verdict.uniform_weights(4) == {0: 1.0, 4: 3.0}


def test_text_that_is_no_unicode_is_written_as_an_escape(tmp_path: Path) -> None:
    fault = {"hospital": 1, "reason": "half \ud800 of a pair, \x1b[2J, é"}
    append_line(tmp_path / "rounds.jsonl", RoundLine.of(round=1, faults=[fault]))
    (line,) = read_lines(tmp_path / "rounds.jsonl", RoundLine)
    assert line.faults[0].reason == "half \\ud800 of a pair, \x1b[2J, é"


def test_timing_line_gives_the_seconds_of_each_phase() -> None:
    line = TimingLine.model_validate_json('{"round": 1, "set-up": 0.5, "training": 2, "defence_mib": 1.5}')
    assert line.seconds == {"set-up": 0.5, "training": 2.0}


def test_record_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Metrics(accuracy=0.5).accuracy = 0.9


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", r"rounds\.jsonl: line 1, not JSON"),
        ("[" * 5000, r"rounds\.jsonl: line 1, not JSON \(recursion limit exceeded"),
        ("[1]", r"rounds\.jsonl: line 1, input should be an object"),
        ('{"round": true}', r"rounds\.jsonl: line 1, round: input should be a valid integer"),
        ("{}", r"rounds\.jsonl: line 1, round: field required"),
        (
            '{"round": 1, "clean": {"accuracy": "high"}}',
            r"line 1, clean\.accuracy: input should be a valid number",
        ),
    ],
)
def test_damaged_line_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "rounds.jsonl"
    file.write_text((text or "{") + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=sentence) as error:
        read_lines(file, RoundLine)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_file_that_is_not_text_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="it is not UTF-8 text"):
        read_text(tmp_path / "bad.json")
    with pytest.raises(UserError, match=r"none\.json cannot be read"):
        read_record(tmp_path / "none.json", RoundLine)


def test_only_one_module_replaces_files() -> None:
    """Whatever the call is named; the others rename folders."""
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if any(map(_renames, ast.walk(ast.parse(path.read_text(encoding="utf-8")))))
    }
    renames_folders = {"deploy/keeper.py", "engines/shared_folder.py", "results/folder.py"}
    assert found - renames_folders == {"disk/files.py"}


def _renames(node: ast.AST) -> bool:
    """Tell whether a call renames a path; a text's `replace` has two arguments, a record's has names."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    of_module = isinstance(node.func.value, ast.Name) and node.func.value.id in ("os", "shutil")
    alone = len(node.args) == 1 and not node.keywords
    return (of_module and node.func.attr in ("replace", "rename", "renames", "move")) or (
        alone and node.func.attr in ("replace", "rename")
    )

"""The report command, and the page at the end of a run."""

from __future__ import annotations

import json
import os
import sys
import webbrowser
from pathlib import Path
from typing import Any

import pytest
import suite_results
from federations import tiny
from run_folders import make_run

from fedrobust import run
from fedrobust.commands import program
from fedrobust.reports.writing import write_report
from fedrobust.runtime import runner


def call(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        program.main(["report", *arguments])
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


def test_report_command_writes_pages_and_prints_their_paths(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [make_run(tmp_path / name) for name in ("a", "b")]
    code, out, err = call([str(folder) for folder in folders], capsys)
    assert (code, err) == (0, "")
    assert out.split() == [str(folder / "report.html") for folder in folders]
    assert all("<h1>" in (folder / "report.html").read_text("utf-8") for folder in folders)
    assert not list(tmp_path.glob("*/.*"))


def test_report_command_with_open_shows_pages_in_the_browser(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    make_run(tmp_path)
    call([str(tmp_path), "--open"], capsys)
    assert opened == [(tmp_path / "report.html").as_uri()]


def test_page_of_the_same_folder_is_the_same(tmp_path: Path) -> None:
    make_run(tmp_path)
    assert write_report(tmp_path).read_bytes() == write_report(tmp_path).read_bytes()


@pytest.mark.parametrize(
    ("name", "files", "words"),
    [
        ("nowhere", None, "there is no such folder"),
        ("empty", [], "neither a run's folder nor a suite's"),
        ("half.partial", ["settings.toml"], "not finished; resume it with"),
        ("bad", ["suite.json"], "suite.json: not JSON"),
        ("torn", ["summary.json"], "not the folder of a finished run"),
    ],
)
def test_report_command_on_a_wrong_folder_is_one_sentence(
    name: str, files: list[str] | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / name
    if files is not None:
        folder.mkdir()
        for file in files:
            (folder / file).write_text("", encoding="utf-8")
    code, out, err = call([str(folder)], capsys)
    assert (code, out) == (2, "")
    assert words in err and len(err.splitlines()) == 1


def test_export_of_several_folders_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "a")
    target = tmp_path / "table.csv"
    code, _, err = call([str(tmp_path / "a"), "--csv", str(target)], capsys)
    assert code == 2 and "not the folder of a suite" in err and not target.exists()
    code, _, err = call([str(tmp_path / "a"), str(tmp_path / "b"), "--latex", str(target)], capsys)
    assert code == 2 and "one table is one suite's" in err


def test_run_writes_its_page_unless_told_not_to(tmp_path: Path) -> None:
    with_page = run(tiny(tmp_path / "a", malicious=1))
    assert (with_page.folder / "report.html").stat().st_size > 1_000_000
    silent = run(tiny(tmp_path / "b", malicious=1), report=False)
    assert not (silent.folder / "report.html").exists()


def test_page_that_fails_leaves_the_run_intact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path) -> Path:
        raise RuntimeError("no ink")

    monkeypatch.setattr("fedrobust.reports.writing.write_report", fail)
    with pytest.warns(UserWarning, match="the run is complete, but its report .* RuntimeError: no ink"):
        result: Any = run(tiny(tmp_path))
    assert (result.folder / "summary.json").is_file()


def test_page_in_a_read_only_folder_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.warns(UserWarning, match="cannot be written .No space left on device"):
        runner.keep_report(tmp_path)


def test_report_command_imports_no_torch(tmp_path: Path) -> None:
    import subprocess

    make_run(tmp_path)
    code = (
        "import sys; sys.argv = ['report', sys.argv[1]]\n"
        "from fedrobust.commands.program import run_command; from fedrobust.report import report\n"
        "try: run_command(report)\n"
        "except SystemExit: print(sorted({'torch', 'ray', 'pandas', 'plotly'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_report_command_exports_a_suite_and_writes_its_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "suite.json").write_text(json.dumps(suite_results.results()), encoding="utf-8")
    targets = {kind: tmp_path / f"table.{kind}" for kind in ("csv", "latex")}
    flags = [word for kind, path in targets.items() for word in (f"--{kind}", str(path))]
    code, out, _ = call([str(tmp_path), *flags], capsys)
    assert (code, out.strip()) == (0, str(tmp_path / "report.html"))
    assert "krum" in targets["csv"].read_text("utf-8") and "tabular" in targets["latex"].read_text("utf-8")

"""What the terminal says at the end of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from federations import tiny

from fedrobust.commands.run_display import Terminal
from fedrobust.runtime.runner import Result


def result(tmp_path: Path, malicious: tuple[int, ...] = (0, 3), **changes: Any) -> Result:
    score = {"accuracy": 0.5, "macro_f1": 0.25, "macro_precision": 0.0, "macro_recall": 0.3, "auroc": None}
    summary = {
        "clean": score,
        "noisy": score,
        "drop": {"accuracy": 12.5, "macro_f1": -1.0, "macro_precision": None, "combined": None},
        "detection": {"flagged": [1, 3], "weights": {"0": 0.1, "1": 0.3, "2": 0.6, "3": 0.0}},
        "attack_success_rate": None,
        "server_images": 0,
        "server_share": 0.0,
        "faults": 0,
        "rounds": 2,
        "synthetic": True,
        "run": "runs/here",
        **changes,
    }
    return Result(tiny(tmp_path), summary, [], tmp_path, malicious)


def said(result: Result, capsys: pytest.CaptureFixture[str]) -> str:
    Terminal(result.settings, quiet=True).finish(result)
    return capsys.readouterr().out


def test_found_and_wronged_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(result(tmp_path), capsys)
    assert "Malicious hospitals: 0, 3. Found: 3." in text
    assert "Honest hospitals flagged: 1." in text
    assert "0.100 (a fair share is 0.500)" in text
    assert "synthetic" in text
    assert "12.50 %" in text and "-1.00 %" in text and "undefined" in text
    assert max(map(len, text.splitlines()[:11])) <= 80


def test_nobody_malicious(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Nobody was malicious. Honest hospitals flagged: 1, 3." in said(result(tmp_path, ()), capsys)


def test_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(result(tmp_path, detection={"flagged": [], "weights": {}}), capsys)
    assert "gives no verdict" in text


def test_faults_early_stop_and_backdoor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(result(tmp_path, faults=3, rounds=1, attack_success_rate=0.75), capsys)
    assert "faults: 3" in text and "Stopped after round 1" in text and "0.750" in text


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.5, "half of the"), (1.0, "all of the"), (0.07, "7 % of the"), (0.125, "12.5 % of the")],
)
def test_what_the_defence_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], share: float, words: str
) -> None:
    text = said(result(tmp_path, server_images=302, server_share=share), capsys)
    assert f"The defence looked at 302 labelled images of the server ({words} validation part)." in text
    assert "labelled images" not in said(result(tmp_path), capsys)


def test_the_page_is_named_where_there_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Report:" not in said(result(tmp_path, run=str(tmp_path)), capsys)
    (tmp_path / "report.html").write_text("", encoding="utf-8")
    assert f"Report: {tmp_path / 'report.html'}" in said(result(tmp_path, run=str(tmp_path)), capsys)

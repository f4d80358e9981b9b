"""What a run shows while it goes on: lines without a terminal, a bar in one."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from federations import tiny
from rich.console import Console

from fedrobust.results.records import ClientMetricsLine, RoundLine, VerdictLine
from fedrobust.runtime import progress, runner
from fedrobust.runtime.observers import RoundOutcome, RunStart
from fedrobust.runtime.progress import Progress, time_left
from fedrobust.scenario import Scenario


def outcome(number: int, accuracy: float | None = 0.5, **more: Any) -> RoundOutcome:
    line = {"round": number, "clean": {"accuracy": accuracy}, "val": {"loss": 1.25}, "flagged": [1]}
    verdict, reported = VerdictLine(round=number), ClientMetricsLine(round=number)
    return RoundOutcome(RoundLine.of(line, **more), verdict, reported)


def start(folder: Path, completed: int = 0) -> RunStart:
    settings = tiny(folder, clients=3, rounds=3, threat=("label-flip:1", "other-scanner:1"))
    scenario = Scenario.of(settings)
    return RunStart(scenario, scenario.malicious, "phantom (synthetic)", folder, completed)


def shown(terminal: bool = False, quiet: bool = False) -> tuple[Progress, io.StringIO]:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=160, color_system=None)
    return Progress(console=console, quiet=quiet), text


def test_lines_without_a_terminal_name_start_rounds_and_time_left(tmp_path: Path) -> None:
    watch, text = shown()
    with watch:
        watch.started(start(tmp_path))
        watch.round_done(outcome(1))
        watch.round_done(outcome(2, accuracy=None))
        watch.round_done(outcome(3))
    lines = text.getvalue().splitlines()
    assert lines[0] == (
        "3 hospitals, 1 of them malicious (label-flip:1), 1 atypical (other-scanner:1) · phantom "
        "(synthetic) · isolation-forest"
    )
    assert lines[1].startswith("round 1/3: accuracy 0.500, validation loss 1.250, flagged 1, about ")
    assert lines[1].endswith(" left") and "accuracy undefined" in lines[2]
    assert lines[3] == "round 3/3: accuracy 0.500, validation loss 1.250, flagged 1"


def test_long_round_without_a_terminal_shows_its_replies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY", -1.0)
    watch, text = shown()
    watch.started(start(tmp_path, completed=1))
    watch.replied()
    watch.replied()
    assert [line for line in text.getvalue().splitlines() if "hospitals," not in line] == [
        "round 2/3: 1 of 3 hospitals",
        "round 2/3: 2 of 3 hospitals",
    ]


def test_terminal_shows_a_bar_before_the_run_has_started(tmp_path: Path) -> None:
    watch, text = shown(terminal=True)
    with watch:
        assert "preparing data and workers" in text.getvalue()
        watch.started(start(tmp_path))
        watch.replied()
        watch.round_done(outcome(1))
    assert "round 2" in text.getvalue() and "3/9" in text.getvalue()


def test_failed_hospital_is_named_with_its_reason_as_plain_text(tmp_path: Path) -> None:
    watch, text = shown()
    watch.started(start(tmp_path))
    watch.round_done(outcome(1, faults=[{"hospital": 2, "reason": "breaks [/red]"}]))
    assert "round 1: hospital 2 failed, its update is discarded: breaks [/red]" in text.getvalue()


def test_quiet_shows_nothing(tmp_path: Path) -> None:
    watch, text = shown(quiet=True)
    with watch:
        watch.started(start(tmp_path))
        watch.replied()
        watch.round_done(outcome(1, faults=[{"hospital": 2, "reason": "breaks"}]))
    assert text.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "about 1 s"), (75, "about 75 s"), (600, "about 10 min"), (9000, "about 2.5 h")],
)
def test_time_left_is_in_words(seconds: float, words: str) -> None:
    assert time_left(seconds) == words


@pytest.mark.parametrize(("prompt", "lines"), [(True, 2), (False, 0)])
def test_run_in_a_notebook_shows_progress_and_a_script_none(
    prompt: bool,
    lines: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(runner, "interactive", lambda: prompt)
    settings = tiny(tmp_path, clients=2, rounds=1, strategy="fedavg", data="phantom(images=120, size=16)")
    runner.run(settings, report=False)
    assert len(capfd.readouterr().err.splitlines()) == lines

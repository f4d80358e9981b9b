"""Observers: they get the events of a run in a fixed order, and the loop knows none of them."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from federations import Cut, Unplugged, tiny

from fedrobust import RunInterrupted, run
from fedrobust.runtime.observers import Observer, RoundOutcome, RunStart
from fedrobust.runtime.result import Result
from fedrobust.scenario import RunIdentity


class Tracker(Observer):
    """Keeps what an experiment tracker would log, and what stands on disk at each event."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.parameters: dict[str, object] = {}
        self.series: list[float | None] = []
        self.files: list[int] = []
        self.start: RunStart | None = None
        self.result: Result | None = None

    def started(self, start: RunStart) -> None:
        self.events.append("started")
        self.start = start
        self.parameters = start.scenario.run.written

    def replied(self) -> None:
        self.events.append("replied")

    def round_done(self, outcome: RoundOutcome) -> None:
        assert self.start is not None
        self.events.append(f"round {outcome.number}")
        self.series.append(outcome.line.clean.value("accuracy"))
        self.files.append(len((self.start.folder / "rounds.jsonl").read_text().splitlines()))
        assert outcome.arrays is not None and outcome.verdict.round == outcome.number
        assert outcome.client_metrics.hospitals == (0, 1, 2)
        assert (self.start.folder / "checkpoint.safetensors").is_file()

    def finished(self, result: Result) -> None:
        self.events.append("finished")
        self.result = result
        assert (result.folder / "summary.json").is_file()


def test_observer_of_a_run_is_told_every_event_in_order(tmp_path: Path) -> None:
    tracker = Tracker()
    result = run(tiny(tmp_path, clients=3, data="phantom(images=120, size=16)"), [tracker], report=False)
    replies = ["replied"] * 3
    assert tracker.events == ["started", *replies, "round 1", *replies, "round 2", "finished"]
    assert tracker.parameters["clients"] == 3
    assert tracker.start is not None and tracker.start.folder.name.endswith(".partial")
    assert (tracker.start.completed, tracker.start.source) == (0, "phantom (synthetic)")
    # The run's own files come first: an observer that fails loses no round.
    assert tracker.files == [1, 2]
    assert tracker.series == [line["clean"]["accuracy"] for line in result.rounds]
    assert tracker.result is not None and tracker.result.summary == result.summary


def test_observer_that_raises_leaves_a_run_that_resumes(tmp_path: Path) -> None:
    settings = tiny(tmp_path, clients=3, data="phantom(images=120, size=16)")
    with pytest.raises(Unplugged):
        run(settings, [Cut(1)], report=False)
    tracker = Tracker()
    run(settings, [tracker], resume=True, report=False)
    assert tracker.start is not None and tracker.start.completed == 1
    assert [event for event in tracker.events if event.startswith("round")] == ["round 2"]


class CtrlC(Observer):
    """Stands for a user who presses Ctrl-C in round 2."""

    def __init__(self) -> None:
        self.replies = 0

    def replied(self) -> None:
        self.replies += 1
        if self.replies == 5:
            raise KeyboardInterrupt


def test_interrupted_run_names_its_folder_and_completed_rounds(tmp_path: Path) -> None:
    settings = tiny(tmp_path, clients=3, rounds=3, data="phantom(images=120, size=16)")
    with pytest.raises(RunInterrupted) as caught:
        run(settings, [CtrlC()], report=False)
    assert caught.value.rounds == 1
    partial = RunIdentity.of(settings).folder.with_name(RunIdentity.of(settings).folder.name + ".partial")
    assert caught.value.folder == partial
    assert len((partial / "rounds.jsonl").read_text().splitlines()) == 1
    resumed = run(settings, resume=True, report=False)
    assert [line["round"] for line in resumed.rounds] == [1, 2, 3]
    timings = [json.loads(line) for line in (resumed.folder / "timings.jsonl").read_text().splitlines()]
    assert [line["round"] for line in timings] == [0, 1, 2, 3]


class _Dropping:
    """Meets Ctrl-C in its destructor, where Python prints what the signal raises and goes on."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


class DropsCtrlC(Observer):
    def __init__(self) -> None:
        self.replies = 0

    def replied(self) -> None:
        self.replies += 1
        if self.replies == 2:
            _Dropping()


@pytest.fixture
def ctrl_c() -> Iterator[Callable[..., object]]:
    """Let Python handle Ctrl-C, which what a shell starts in the background ignores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_drops_ends_the_run_after_the_round(
    tmp_path: Path, ctrl_c: Callable[..., object]
) -> None:
    settings = tiny(tmp_path, clients=3, rounds=3, data="phantom(images=120, size=16)")
    with pytest.raises(RunInterrupted) as caught:
        run(settings, [DropsCtrlC()], report=False)
    assert caught.value.rounds == 1
    assert signal.getsignal(signal.SIGINT) is ctrl_c
    assert [line["round"] for line in run(settings, resume=True, report=False).rounds] == [1, 2, 3]


def test_interruption_before_the_start_stays_a_keyboard_interrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fedrobust.runtime.server.Server.run", stop)
    with pytest.raises(KeyboardInterrupt) as caught:
        run(tiny(tmp_path), report=False)
    assert not isinstance(caught.value, RunInterrupted)

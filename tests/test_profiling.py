"""The profile: phases that do not overlap and add up to the wall time."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from federations import tiny

from fedrobust import run
from fedrobust.runtime.profiling import PHASES, Profile, process_began


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("fedrobust.runtime.profiling.time.perf_counter", clock)
    return clock


def test_profile_phase_inside_another_counts_once(clock: Clock) -> None:
    profile = Profile()
    with profile.phase("set-up"):
        clock.now += 1
        with profile.phase("data"):
            clock.now += 10
            with profile.phase("imports"):
                clock.now += 100
            clock.now += 10
        with profile.phase("data"):
            clock.now += 5
        clock.now += 1
    assert profile.lap() == {"set-up": 2, "data": 25, "imports": 100}


def test_profile_phase_that_fails_counts(clock: Clock) -> None:
    profile = Profile()
    with pytest.raises(KeyError), profile.phase("set-up"), profile.phase("data"):
        clock.now += 3
        raise KeyError
    assert profile.lap() == {"data": 3, "set-up": 0}


def test_profile_table_splits_start_and_rounds(clock: Clock) -> None:
    profile = Profile()
    profile.add("imports", 4)
    for training in (1, 2, 30, 3):
        profile.lap()
        profile.add("training", training)
    profile.lap()
    rows = {name: (first, later) for name, first, later in profile.table()}
    assert list(rows) == [*PHASES, "total"]
    assert rows["imports"] == (4, 0)
    assert rows["training"] == (1, 3)
    assert rows["total"] == (5, 3)


def test_profile_of_one_round_has_no_later_round() -> None:
    profile = Profile()
    profile.lap()
    profile.add("training", 1)
    assert profile.table()[-1] == ("total", 1, None)


def test_profile_moves_at_most_what_a_phase_has() -> None:
    profile = Profile()
    profile.add("transport", 2)
    profile.move("transport", "training", 5)
    assert profile.lap() == {"transport": 0, "training": 2}


def test_process_began_before_now() -> None:
    assert time.time() - 3600 < process_began() <= time.time() + 0.02
    assert Profile(time.time() - 5).lap()["imports"] == pytest.approx(5, abs=1)


def test_run_accounts_for_its_time(tmp_path: Path) -> None:
    profile = Profile()
    began = time.perf_counter()
    result = run(tiny(tmp_path, rounds=3), profile=profile)
    passed = time.perf_counter() - began
    lines = [json.loads(line) for line in (result.folder / "timings.jsonl").read_text().splitlines()]
    assert [line.pop("round") for line in lines] == [0, 1, 2, 3]
    taken = [line.pop("defence_mib") for line in lines[1:]]
    assert all(mib is None or 0 <= mib < 1000 for mib in taken)
    assert all(set(line) <= set(PHASES) for line in lines)
    counted = sum(sum(line.values()) for line in lines)
    assert 0.5 * passed < counted < passed
    assert all(line["training"] > 0 and line["evaluation"] > 0 for line in lines[1:])

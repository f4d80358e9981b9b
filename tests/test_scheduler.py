"""The scheduler of cells over an executor of lists: order, time limit, the second try, failures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from federations import tiny

from fedrobust import Settings
from fedrobust.suites.progress import Silent
from fedrobust.suites.scheduler import Outcome, work_off
from fedrobust.suites.store import failure


class Listed:
    """An executor that ends each cell at once, as its script says; notes what it was given."""

    def __init__(self, slots: int, script: dict[str, list[Outcome]]) -> None:
        self.slots = slots
        self.script, self.started, self.running = script, list[tuple[str, int | str]](), list[str]()
        self.most = 0
        self.closed = False

    def start(self, digest: str, settings: Settings) -> None:
        self.started.append((digest, settings.workers))
        self.running.append(digest)
        self.most = max(self.most, len(self.running))

    def wait(self) -> Sequence[Outcome]:
        digest = self.running.pop(0)
        return [self.script[digest].pop(0) if self.script.get(digest) else Outcome(digest, "")]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def cells(tmp_path: Path) -> dict[str, Settings]:
    return {name: tiny(tmp_path, seed=seed) for seed, name in enumerate(("a", "b", "c"))}


def test_scheduler_runs_all_cells_in_order_with_no_more_than_the_slots(cells: dict[str, Settings]) -> None:
    executor = Listed(2, {})
    assert work_off(cells, executor, Silent()) == {}
    assert [digest for digest, _ in executor.started] == ["a", "b", "c"]
    assert executor.most == 2 and executor.closed


def test_scheduler_tries_a_lost_cell_once_more_with_workers_of_its_own(cells: dict[str, Settings]) -> None:
    executor = Listed(1, {"a": [Outcome("a", "died", lost=True)], "b": [Outcome("b", "died", lost=True)] * 2})
    assert work_off(cells, executor, Silent()) == {"b": "died"}
    assert [entry for entry in executor.started if entry[1] == 2] == [("a", 2), ("b", 2)]
    assert failure(cells["b"]).strip() == "died" and failure(cells["a"]) == ""


def test_scheduler_notes_a_failure_and_continues(cells: dict[str, Settings]) -> None:
    executor = Listed(1, {"a": [Outcome("a", "ValueError: no")]})
    assert work_off(cells, executor, Silent()) == {"a": "ValueError: no"}
    assert len(executor.started) == 3
    assert failure(cells["a"]).strip() == "ValueError: no"


def test_scheduler_begins_no_cell_after_the_time_limit(cells: dict[str, Settings]) -> None:
    executor = Listed(1, {})
    assert work_off(cells, executor, Silent(), seconds=-1.0) == dict.fromkeys(cells, "")
    assert executor.started == [] and executor.closed

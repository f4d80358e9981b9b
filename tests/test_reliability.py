"""The runner of the reliability test: its promises are well formed, and what they count is right."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from benchmarks.reliability.__main__ import line, measured, modules
from benchmarks.reliability.faults import Faults

#: Two promises at once for 25 minutes.
MOST_MINUTES = 50


def test_promises_are_well_formed_and_end_in_time() -> None:
    found = [importlib.import_module(name) for name in modules().values()]
    assert found and all(one.TITLE and callable(one.inject) for one in found)
    assert sum(one.MINUTES for one in found) <= MOST_MINUTES
    assert max(one.MINUTES for one in found) <= MOST_MINUTES / 2


def test_faults_are_counted(tmp_path: Path) -> None:
    faults = Faults(tmp_path)
    with faults.fault("files", "a cut file"):
        pass
    with faults.fault("files", "an empty file"):
        raise ValueError("read as whole")
    faults.check("signals", True, "SIGTERM")
    faults.skip("disk", "nothing can be mounted here")
    assert faults.totals() == {"injected": 3, "survived": 2, "lost": 1}
    assert faults.lost == ["files: an empty file: ValueError: read as whole"]


def test_promise_whose_test_fails_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(modules()[1])

    def fails(faults: Faults) -> None:
        raise RuntimeError("no strace")

    monkeypatch.setattr(module, "inject", fails)
    found = measured(1)
    assert found["lost"] == 1
    assert "no strace" in line(found)

"""How many workers a run gets."""

from __future__ import annotations

from pathlib import Path

from federations import tiny

from fedrobust.engines.launch import worker_count


def test_worker_count(tmp_path: Path) -> None:
    assert worker_count(tiny(tmp_path, workers=8, clients=3)) == 3
    assert worker_count(tiny(tmp_path, workers="auto", clients=1)) == 1
    assert worker_count(tiny(tmp_path, workers="auto", device="cuda:0")) == 1

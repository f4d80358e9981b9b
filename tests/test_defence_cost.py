"""The ratios of `benchmarks/defence_cost.py`, on made-up seconds."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.defence_cost import DEFAULT, MAIN_JOB, PEER, cell_ratio, share_of_training
from fedrobust.results.finished_run import FinishedRun


def test_share_is_the_median_of_later_rounds(tmp_path: Path) -> None:
    # Round 0 is what precedes the first; round 1 also pays for what is made once.
    pairs = [(0.0, 1.0), (9.0, 1.0), (0.1, 1.0), (0.4, 2.0), (0.9, 1.0)]
    lines = [
        json.dumps({"round": number, "aggregation": aggregation, "training": training})
        for number, (aggregation, training) in enumerate(pairs)
    ]
    (tmp_path / "timings.jsonl").write_text("\n".join(lines) + "\n")
    assert share_of_training(FinishedRun(tmp_path)) == 0.2


def test_cells_are_compared_by_seed() -> None:
    seconds = {(1, DEFAULT): 2.0, (1, PEER): 1.0, (2, DEFAULT): 9.0, (2, PEER): 6.0}
    assert cell_ratio(seconds | {(3, DEFAULT): 12.0, (3, PEER): 10.0}) == 1.5


def test_main_job_is_that_of_the_readme() -> None:
    assert (MAIN_JOB.clients, MAIN_JOB.malicious, MAIN_JOB.networks, MAIN_JOB.data) == (10, 2, 2, "phantom")

"""What the default defence costs: aggregation over training in the main job, a suite's cell over FedAvg's.

The share of training is that of a later round (median over rounds, then over repetitions), within one run.
The cells are complete runs as a suite makes them, each in one process on one thread, with the default defence
and with FedAvg in turn, without what precedes round 1; the ratio is the median over pairs of one seed. With
``--json`` the last line is JSON.

    python benchmarks/defence_cost.py --json

The results are meaningless if the machine does other work at the same time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import median

from fedrobust import Settings, run
from fedrobust.results.finished_run import FinishedRun
from fedrobust.suites.cells import run_cells

DEFAULT = Settings().strategy
PEER = "fedavg"
#: The main job: ten hospitals, two of them malicious, two networks each, synthetic images.
MAIN_JOB = Settings(clients=10, malicious=2)


def share_of_training(found: FinishedRun) -> float:
    """Return the seconds of aggregation over those of training, the median of the rounds after the first."""
    later = [line.seconds for line in found.timings if line.round > 1]
    return median(seconds["aggregation"] / seconds["training"] for seconds in later)


def cell_ratio(seconds: dict[tuple[int, str], float]) -> float:
    """Return a cell's seconds with the default defence over those with FedAvg, the median of all seeds."""
    seeds = {seed for seed, _ in seconds}
    return median(seconds[seed, DEFAULT] / seconds[seed, PEER] for seed in seeds)


def of_main_job(settings: Settings, out: Path, repeats: int) -> float:
    """Return the median share of training of runs with the machine's usual number of workers."""
    shares = []
    for seed in range(repeats):
        result = run(settings.model_copy(update={"seed": seed, "out": str(out)}), [], report=False)
        shares.append(share_of_training(FinishedRun(result.folder)))
        print(f"seed {seed}: aggregation takes {shares[-1]:.3f} of training", flush=True)
    return median(shares)


def of_cells(settings: Settings, out: Path, repeats: int) -> float:
    """Return the ratio of a cell's seconds, both methods in turn in one process."""
    cells = {
        (seed, name): settings.model_copy(update={"seed": seed, "strategy": name})
        for seed in range(repeats + 1)
        for name in (DEFAULT, PEER)
    }
    seconds = {}
    for (seed, name), cell in run_cells(cells, 1, out).items():
        # Seed 0 warms the process up, which imports what the defence needs.
        if seed:
            seconds[seed, name] = cell.run.summary.seconds or 0.0
            print(f"seed {seed}, {name}: {seconds[seed, name]:.2f} s", flush=True)
    return cell_ratio(seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--json", action="store_true", help="print the measurements as JSON on the last line")
    given = parser.parse_args()
    settings = MAIN_JOB.model_copy(update={"rounds": given.rounds})
    with tempfile.TemporaryDirectory() as folder:
        share = of_main_job(settings, Path(folder) / "main", given.repeats)
        cells = of_cells(settings, Path(folder) / "cells", given.repeats)
    found = {"share_of_training": round(share, 3), "cells": round(cells, 3)}
    for name, value in found.items():
        print(f"{name}: {value}")
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()

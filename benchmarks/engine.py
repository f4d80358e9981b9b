"""What the federation costs beside the training itself, and what its largest and most numerous cases cost.

The floor ('ideal') is the hospitals' training alone: as many plain processes as cores, one thread each, hospitals dealt
out, no federation. The peer is Flower's stock simulation runtime with the same ClientApp. Evaluation on the server is left out
of a round on both sides. All figures are ratios within this one run; the last line is JSON with ``--json``.

    python benchmarks/engine.py --data-root DATA --json

About ten minutes on 2 cores. `engine_big.py` and `engine_growth.py` hold the cases without training and of many hospitals.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from fedrobust import Settings
from fedrobust.data.sources import prepare
from fedrobust.learners.factory import build_learner
from fedrobust.runtime.profiling import PHASES
from fedrobust.scenario import Scenario

WORKERS = len(os.sched_getaffinity(0))


def settings(data_root: str | None, clients: int, rounds: int, out: str, **changes: Any) -> Settings:
    """Return a federation of the default network with a linear head; real X-rays where there are some."""
    data = {"data": "medmnist:pneumoniamnist", "data_root": data_root} if data_root else {}
    quick = {"networks": 1, "head": "linear", "local_epochs": 1, "strategy": "fedavg", "workers": WORKERS}
    return Settings(**{**data, **quick, "clients": clients, "rounds": rounds, "out": out, **changes})


def floor(data_root: str | None, clients: int, rounds: int, share: int) -> None:
    """Train every WORKERS-th hospital, no federation; print the seconds of each round after the first."""
    chosen = settings(data_root, clients, rounds, "unused")
    scenario = Scenario.of(chosen)
    data, learner = prepare(scenario.data), build_learner(scenario.learner, scenario.data)
    mine = {number: data.of_hospital(number) for number in range(share, clients, WORKERS)}
    start = learner.initial()
    for number, records in mine.items():
        learner.fit(start, records, round=0, client=number, lr=chosen.lr)
    print("ready", flush=True)
    sys.stdin.readline()
    for round_ in range(1, rounds):
        began = time.perf_counter()
        for number, records in mine.items():
            learner.fit(start, records, round=round_, client=number, lr=chosen.lr)
        print(time.perf_counter() - began, flush=True)


def ideal(data_root: str | None, clients: int, rounds: int) -> float:
    """Return the seconds of a round of the floor: the slower process of each round, the median over rounds."""
    call = [sys.executable, __file__, *(["--data-root", data_root] if data_root else [])]
    call += ["--floor", str(clients), str(rounds)]
    processes = [
        subprocess.Popen([*call, str(share)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for share in range(WORKERS)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    outputs = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        outputs.append([float(line) for line in process.communicate()[0].split()])
    return statistics.median(max(times) for times in zip(*outputs, strict=True))


def federated(chosen: Settings) -> tuple[float, float]:
    """Return the seconds from the command to the end of round 1, and of a later round (median), evaluation left out."""
    command = [sys.executable, "-m", "fedrobust.simulate", "--quiet"]
    for key, value in chosen.model_dump(include=chosen.model_fields_set).items():
        if value not in ("", ()):
            command += ["--" + key.replace("_", "-"), str(value)]
    subprocess.run(command, check=True, capture_output=True)
    (folder,) = Path(chosen.out).iterdir()
    laps = [json.loads(line) for line in (folder / "timings.jsonl").read_text().splitlines()]
    counted = PHASES.keys() - {"evaluation", "records"}
    seconds = [sum(v for phase, v in lap.items() if phase in counted) for lap in laps]
    return seconds[0] + seconds[1], statistics.median(seconds[2:])


def engines(data_root: str | None) -> dict[str, float]:
    """Return the ratios of training federations of 10 and of 100 hospitals."""
    found: dict[str, float] = {}
    for clients, rounds in ((10, 16), (100, 12)):
        with tempfile.TemporaryDirectory() as out:
            # The floor before, between and after: the machine's speed wanders.
            bounds, ours = [ideal(data_root, clients, rounds)], []
            for repeat in range(2):
                ours.append(federated(settings(data_root, clients, rounds, f"{out}/local-{repeat}")))
                bounds.append(ideal(data_root, clients, rounds))
            stock = federated(settings(data_root, clients, 7, f"{out}/stock", engine="flower"))
        first, later = (statistics.mean(values) for values in zip(*ours, strict=True))
        print(
            f"{clients} hospitals: ideal {bounds[0]:.3f}, {bounds[1]:.3f} and {bounds[2]:.3f} s, local {later:.3f} s, "
            f"stock {stock[1]:.3f} s a round; round 1 done after {first:.1f} s, stock {stock[0]:.1f} s",
            flush=True,
        )
        found[f"ideal_ratio_{clients}"] = later / statistics.mean(bounds)
        if clients == 10:
            found["first_round_vs_stock"] = stock[0] / first
        else:
            found["round_100_vs_stock"] = stock[1] / later
    return found


def figure(script: str, *arguments: str) -> float:
    """Return the last line that a script beside this one prints, as a number; show what it says before."""
    command = [sys.executable, str(Path(__file__).with_name(script)), *arguments]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    for line in (*lines[:-1], f"{script} {' '.join(arguments)}: {lines[-1]}"):
        print(line, flush=True)
    return float(lines[-1])


def measure(data_root: str | None) -> dict[str, Any]:
    """Return all ratios."""
    found: dict[str, Any] = engines(data_root)
    big = {}
    for rule in ("fedavg", "median", "krum"):
        stock = figure("engine_big.py", "stock", rule, "--rounds", "3")
        big[rule] = stock / figure("engine_big.py", "ours", rule, "--rounds", "6")
    found["big_vs_stock"] = {rule: round(value, 2) for rule, value in big.items()}
    found["big_peak_memory_ratio"] = max(figure("engine_big.py", "memory", rule) for rule in big)
    found["growth_1000"] = figure("engine_growth.py", "cost")
    # Not among the targets in figures: it must simply not grow.
    figure("engine_growth.py", "memory")
    return {name: value if isinstance(value, dict) else round(value, 3) for name, value in found.items()}


def main() -> None:
    """Measure, or be one process of the floor."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data-root", help="folder with pneumoniamnist.npz; without it the synthetic images serve"
    )
    parser.add_argument("--json", action="store_true", help="print the ratios as JSON on the last line")
    parser.add_argument("--floor", nargs=3, type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.floor:
        clients, rounds, share = arguments.floor
        floor(arguments.data_root, clients, rounds, share)
        return
    found = measure(arguments.data_root)
    for name, value in found.items():
        print(f"{name}: {value}")
    if arguments.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()

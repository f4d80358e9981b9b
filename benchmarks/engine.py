"""Overhead of the federation over the training itself, with large models and many hospitals too.

The lower bound ('ideal') is the hospitals' training alone: as many plain processes as cores, one thread each,
every hospital in one of them, no federation. The peer is Flower's stock simulation runtime with the same
ClientApp. A round's time excludes the server's evaluation on both sides. All results are ratios within this
one run; with ``--json`` the last line is JSON.

    python benchmarks/engine.py --data-root DATA --json

About ten minutes on 2 cores. `engine_big.py` measures large models without training, `engine_growth.py` many
hospitals.
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

from fedrobust import Settings
from fedrobust.data.sources import prepare
from fedrobust.learners.factory import build_learner
from fedrobust.results.finished_run import read_run
from fedrobust.runtime.profiling import PHASES
from fedrobust.scenario import Scenario

WORKERS = len(os.sched_getaffinity(0))


def settings(data_root: str | None, clients: int, rounds: int, out: str, engine: str = "local") -> Settings:
    """Return a federation of the default network with a linear head; real X-rays if there is a data root."""
    chosen = Settings(
        networks=1,
        head="linear",
        local_epochs=1,
        strategy="fedavg",
        workers=WORKERS,
        clients=clients,
        rounds=rounds,
        out=out,
        engine=engine,
    )
    data = {"data": "medmnist:pneumoniamnist", "data_root": data_root}
    return chosen.model_copy(update=data) if data_root else chosen


def train_share(data_root: str | None, clients: int, rounds: int, share: int) -> None:
    """Train every WORKERS-th hospital without a federation; print the seconds of each round but the first."""
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
    """Return a round's seconds without a federation: those of the slowest process, the median over rounds."""
    call = [sys.executable, __file__, *(["--data-root", data_root] if data_root else [])]
    call += ["--train-share", str(clients), str(rounds)]
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
    slowest: list[float] = [max(times) for times in zip(*outputs, strict=True)]
    return statistics.median(slowest)


def federated(chosen: Settings) -> tuple[float, float]:
    """Return the seconds until round 1 ends, and of a later round (median), both without evaluation."""
    command = [sys.executable, "-m", "fedrobust.simulate", "--quiet"]
    for key, value in chosen.model_dump(include=chosen.model_fields_set).items():
        if value not in ("", ()):
            command += ["--" + key.replace("_", "-"), str(value)]
    subprocess.run(command, check=True, capture_output=True)
    (folder,) = Path(chosen.out).iterdir()
    laps = [line.seconds for line in read_run(folder).timings]
    counted = PHASES.keys() - {"evaluation", "records"}
    seconds = [sum(v for phase, v in lap.items() if phase in counted) for lap in laps]
    return seconds[0] + seconds[1], statistics.median(seconds[2:])


def engines(data_root: str | None) -> dict[str, float]:
    """Return the ratios of training federations of 10 and of 100 hospitals."""
    found: dict[str, float] = {}
    for clients, rounds in ((10, 16), (100, 12)):
        with tempfile.TemporaryDirectory() as out:
            # The lower bound before, between and after, as the machine's speed varies.
            bounds, ours = [ideal(data_root, clients, rounds)], []
            for repeat in range(2):
                ours.append(federated(settings(data_root, clients, rounds, f"{out}/local-{repeat}")))
                bounds.append(ideal(data_root, clients, rounds))
            stock = federated(settings(data_root, clients, 7, f"{out}/stock", engine="flower"))
        first, later = (statistics.mean(values) for values in zip(*ours, strict=True))
        print(
            f"{clients} hospitals: ideal {bounds[0]:.3f}, {bounds[1]:.3f} and {bounds[2]:.3f} s, "
            f"local {later:.3f} s, stock {stock[1]:.3f} s a round; "
            f"round 1 done after {first:.1f} s, stock {stock[0]:.1f} s",
            flush=True,
        )
        found[f"ideal_ratio_{clients}"] = later / statistics.mean(bounds)
        if clients == 10:
            found["first_round_vs_stock"] = stock[0] / first
        else:
            found["round_100_vs_stock"] = stock[1] / later
    return found


def result_of(script: str, *arguments: str) -> float:
    """Run a script of this folder; return the last line that it prints, as a number, and print the others."""
    command = [sys.executable, str(Path(__file__).with_name(script)), *arguments]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    for line in (*lines[:-1], f"{script} {' '.join(arguments)}: {lines[-1]}"):
        print(line, flush=True)
    return float(lines[-1])


def measure(data_root: str | None) -> dict[str, float | dict[str, float]]:
    """Return all ratios."""
    found: dict[str, float | dict[str, float]] = {**engines(data_root)}
    big = {}
    for rule in ("fedavg", "median", "krum"):
        stock = result_of("engine_big.py", "stock", rule, "--rounds", "3")
        big[rule] = stock / result_of("engine_big.py", "ours", rule, "--rounds", "6")
    found["big_vs_stock"] = {rule: round(value, 2) for rule, value in big.items()}
    found["big_peak_memory_ratio"] = max(result_of("engine_big.py", "memory", rule) for rule in big)
    found["growth_1000"] = result_of("engine_growth.py", "cost")
    # Printed only; it should not grow.
    result_of("engine_growth.py", "memory")
    return {name: value if isinstance(value, dict) else round(value, 3) for name, value in found.items()}


def main() -> None:
    """Measure, or train one process's share of the hospitals."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data-root", help="folder with pneumoniamnist.npz; without it synthetic images are used"
    )
    parser.add_argument("--json", action="store_true", help="print the ratios as JSON on the last line")
    parser.add_argument("--train-share", nargs=3, type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.train_share:
        clients, rounds, share = arguments.train_share
        train_share(arguments.data_root, clients, rounds, share)
        return
    found = measure(arguments.data_root)
    for name, value in found.items():
        print(f"{name}: {value}")
    if arguments.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()

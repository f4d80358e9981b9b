"""What the federation costs beside the training itself.

The floor ('ideal') is the hospitals' training alone: as many plain processes as cores, one thread each, hospitals dealt
out, no federation. The peer is Flower's stock simulation runtime with the same ClientApp. Evaluation on the server is left out
of a round on both sides. All figures are ratios within this one run; the last line is JSON with ``--json``.

    python benchmarks/engine.py --data-root DATA --json
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
from fedrobust.parts import build_learner

WORKERS = len(os.sched_getaffinity(0))


def settings(data_root: str | None, clients: int, rounds: int, out: str, **changes: Any) -> Settings:
    """Return a federation of the default network with a linear head; real X-rays where there are some."""
    data = {"data": "medmnist:pneumoniamnist", "data_root": data_root} if data_root else {}
    quick = {"networks": 1, "head": "linear", "local_epochs": 1, "strategy": "fedavg", "workers": WORKERS}
    return Settings(**{**data, **quick, "clients": clients, "rounds": rounds, "out": out, **changes})


def floor(data_root: str | None, clients: int, rounds: int, share: int) -> None:
    """Train every WORKERS-th hospital, no federation; print the seconds of each round after the first."""
    chosen = settings(data_root, clients, rounds, "unused")
    data, learner = prepare(chosen), build_learner(chosen)
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
    """Return the seconds until round 1 is trained, and of a later round (median)."""
    command = [sys.executable, "-m", "fedrobust.simulate", "--quiet"]
    for key, value in chosen.model_dump(exclude_defaults=True).items():
        command += ["--" + key.replace("_", "-"), str(value)]
    began = time.time()
    subprocess.run(command, check=True, capture_output=True)
    (folder,) = Path(chosen.out).iterdir()
    timings = [json.loads(line) for line in (folder / "timings.jsonl").read_text().splitlines()]
    manifest = json.loads((folder / "manifest.json").read_text())
    # The manifest is written right before round 1; its second is too coarse, so the file's own time serves.
    ready = (folder / "manifest.json").stat().st_mtime - began
    assert manifest["settings"]["clients"] == chosen.clients
    return ready + timings[0]["train"], statistics.median(line["train"] for line in timings[2:])


def measure(data_root: str | None) -> dict[str, float]:
    """Return the ratios."""
    found: dict[str, float] = {}
    for clients, rounds in ((10, 12), (100, 8)):
        with tempfile.TemporaryDirectory() as out:
            before = ideal(data_root, clients, rounds)
            first, later = federated(settings(data_root, clients, rounds, out + "/local"))
            after = ideal(data_root, clients, rounds)
            stock_first, stock_later = federated(
                settings(data_root, clients, min(rounds, 6), out + "/stock", engine="flower")
            )
        bound = (before + after) / 2
        print(
            f"{clients} hospitals: ideal {before:.3f} and {after:.3f} s, local {later:.3f} s, stock {stock_later:.3f} s a "
            f"round; round 1 done after {first:.1f} s, stock {stock_first:.1f} s",
            flush=True,
        )
        found[f"ideal_ratio_{clients}"] = later / bound
        found[f"round_{clients}_vs_stock"] = stock_later / later
        if clients == 10:
            found["first_round_vs_stock"] = stock_first / first
    return {name: round(value, 3) for name, value in found.items()}


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

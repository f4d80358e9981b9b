"""What running a suite's cells in parallel saves, and how busy it keeps the cores.

The peer runs the same cells sequentially, each with ``fedrobust simulate --engine flower``: Flower's stock
simulation runtime on Ray with the same ClientApp, server and evaluation. Both times are of complete commands,
including their start-up. Busy is the processor time of the command and all its processes over its wall time,
of a suite of 20 cells, on the cores that it may use.

    python benchmarks/suite.py --data-root DATA --json

About six minutes on 2 cores. The results are meaningless if the machine does other work at the same time.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TypedDict, Unpack

import tomli_w

from fedrobust.suites.plan import plan
from fedrobust.suites.suite_files import load_suite

CORES = len(os.sched_getaffinity(0))
BASE = {"clients": 10, "networks": 1, "local-epochs": 1, "rounds": 10}
THREATS = {"none": "none", "label-flip": "label-flip:2", "sign-flip": "sign-flip(scale=4):2"}
FOUR = {**THREATS, "gaussian": "gaussian:2"}
DEFENCES = ["fedavg", "median", "multi-krum", "isolation-forest"]
#: From Linux's prctl.h: orphans become children of this process, so that their processor time is counted
#: here.
_PR_SET_CHILD_SUBREAPER = 36


class Content(TypedDict, total=False):
    """Tables and lists of a suite file."""

    threats: dict[str, str]
    defences: list[str]
    seeds: list[int]


def written(folder: Path, data: dict[str, str], **content: Unpack[Content]) -> str:
    """Write a suite file; return its path."""
    file = folder / "measured.toml"
    file.write_text(tomli_w.dumps({"base": BASE | data, "threats": THREATS} | content))
    return str(file)


def in_parallel(suite: str, folder: Path) -> tuple[float, float]:
    """Run a suite's command; return its wall seconds and the processor seconds of all its processes."""
    before = _children_s()
    began = time.perf_counter()
    command = [sys.executable, "-m", "fedrobust.benchmark", suite, "--out", str(folder), "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - began
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    return wall, _children_s() - before


def sequentially(suite: str, folder: Path) -> float:
    """Run a suite's cells through Flower's stock runtime; return the wall seconds."""
    cells = plan(load_suite(suite), {"out": str(folder)})
    began = time.perf_counter()
    for number, cell in enumerate(cells):
        settings = cell.settings.model_copy(update={"engine": "flower", "workers": CORES})
        file = folder / f"{number}.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        values = settings.model_dump(
            exclude_defaults=True, exclude={"malicious"} if settings.threat else None
        )
        file.write_text(tomli_w.dumps(values))
        command = [sys.executable, "-m", "fedrobust.simulate", "--config", str(file), "--quiet"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print(
            f"stock: {number + 1} of {len(cells)} cells after {time.perf_counter() - began:.0f} s", flush=True
        )
    return time.perf_counter() - began


def measure(data: dict[str, str]) -> dict[str, float]:
    """Return both measurements."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Before the other runs, as Ray may leave processes whose time would count here.
        twenty = written(folder, data, defences=[*DEFENCES, "trimmed-mean"], threats=FOUR, seeds=[1])
        wall, busy = in_parallel(twenty, folder / "twenty")
        print(
            f"20 cells: {wall:.1f} s of wall time, {busy:.1f} s of processor time on {CORES} cores",
            flush=True,
        )
        suite = written(folder, data, defences=DEFENCES)
        ours, _ = in_parallel(suite, folder / "ours")
        stock = sequentially(suite, folder / "stock")
        print(f"12 cells: {ours:.1f} s in parallel, {stock:.1f} s sequentially on the stock runtime")
    return {"speedup_vs_stock": round(stock / ours, 2), "busy": round(busy / (wall * CORES), 3)}


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data-root", help="folder with pneumoniamnist.npz; without it synthetic images are used"
    )
    parser.add_argument("--json", action="store_true", help="print the measurements as JSON on the last line")
    given = parser.parse_args()
    root = given.data_root and str(Path(given.data_root).absolute())
    found = measure({"data": "medmnist:pneumoniamnist", "data-root": root} if root else {"data": "phantom"})
    for name, value in found.items():
        print(f"{name}: {value}")
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()

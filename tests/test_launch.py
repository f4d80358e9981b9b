"""How many workers a run gets, and how a process treats freed memory."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest
from federations import tiny

from fedrobust.engines.launch import worker_count


def test_worker_count(tmp_path: Path) -> None:
    assert worker_count(tiny(tmp_path, workers=8, clients=3).execution()) == 3
    assert worker_count(tiny(tmp_path, workers="auto", clients=1).execution()) == 1
    assert worker_count(tiny(tmp_path, workers="auto", device="cuda:0").execution()) == 1


def _workers_of_a_run(folder: Path) -> int:
    return worker_count(tiny(folder, workers=8, clients=3).execution())


def test_run_within_a_pool_of_processes_trains_in_its_own_process(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(_workers_of_a_run, [tmp_path]) == 1


def test_freed_memory_is_kept_where_the_c_library_can() -> None:
    code = (
        "import resource, numpy as np\n"
        "from fedrobust.engines.launch import keep_freed_memory\n"
        "print(keep_freed_memory())\n"
        "def faults():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(50):\n"
        "        np.ones(1 << 20, np.uint8)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "faults()\n"
        "print(faults())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kept, faults = done.stdout.split()
    if kept == "False":
        pytest.skip("this C library has no mallopt")
    # A megabyte is 256 pages; had it gone back each time, there would be 12,800 faults.
    assert int(faults) < 1000

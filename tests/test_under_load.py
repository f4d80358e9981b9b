"""A sample of the seventh promise: `benchmarks/reliability/promise_7_load.py` has the whole load."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.reliability.faults import Faults
from benchmarks.reliability.promise_7_load import many_cells, many_hospitals, usage

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="this system does not say what a process holds"
)


@pytest.mark.slow
def test_hundred_hospitals_leak_nothing(tmp_path: Path) -> None:
    faults = Faults(tmp_path)
    many_hospitals(faults, 100, 5)
    assert faults.lost == [] and faults.totals()["injected"] == 4


@pytest.mark.slow
def test_more_cells_than_cores_end_and_leave_nothing(tmp_path: Path) -> None:
    faults = Faults(tmp_path)
    many_cells(faults, 6, ["--only", "threat=clean", "--seeds", "0,1"])
    assert faults.lost == [] and faults.totals()["injected"] == 4


def test_usage_sees_zombies_memory_and_descriptors() -> None:
    before = usage(os.getpid())
    # Pages of its own: an array could be given pages that the process held before.
    held = mmap.mmap(-1, 32 << 20)
    held.write(b"1" * len(held))
    with open(os.devnull), subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.read()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        after = usage(os.getpid())
    assert after.zombies - before.zombies == {child.pid}
    assert after.descriptors == before.descriptors + 2
    assert after.bytes - before.bytes > 0.9 * len(held)

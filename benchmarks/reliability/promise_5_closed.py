"""Promise 5: a real federation lets no stranger in, and a killed one leaves nothing behind.

The faults are those of the tests named below, against real processes where they need some, and deployments
that are killed at random moments.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.reliability.faults import Faults
from fedrobust.deploy.keeper import PREFIX

__all__ = ["MINUTES", "TITLE", "inject"]

TITLE = "a real federation is closed"
MINUTES = 6

TOP = Path(__file__).parents[2]
TESTS = ("tests/test_closed_federation.py", "tests/test_registered.py", "tests/test_wire.py")
#: A kill needs some seconds until everything is gone.
KILLS, GONE_S = 8, 20.0

#: Starts a deployment of two hospitals and says when each part of it stands.
DEPLOYED = """
import time
from fedrobust.deploy.local import LocalDeployment
print("begin", flush=True)
with LocalDeployment(2) as deployment:
    print(deployment.folder, flush=True)
    deployment.add_hospital(0)
    deployment.add_hospital(1)
    deployment.wait_for_hospitals()
    time.sleep(60)
"""


def inject(faults: Faults) -> None:
    """Inject the faults."""
    _run_tests(faults)
    for _ in range(KILLS):
        if faults.seconds_left < 2 * GONE_S:
            break
        _kill(faults, random.SystemRandom().uniform(0, 6))


def _run_tests(faults: Faults) -> None:
    """Count each test as a fault."""
    report = faults.folder / "tests.xml"
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", f"--junitxml={report}", *TESTS]
    subprocess.run(words, cwd=TOP, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        name = case.get("name", "").removeprefix("test_").replace("_", " ")
        outcomes = {outcome.tag: outcome.get("message", "") for outcome in case}
        if "skipped" in outcomes:
            faults.skip(name, outcomes["skipped"])
        else:
            faults.check("strangers and liars", not outcomes.keys() & {"failure", "error"}, name)


def _kill(faults: Faults, after_s: float) -> None:
    """Kill a deployment so long after its folder was made; everything of it must go."""
    with subprocess.Popen(
        [sys.executable, "-c", DEPLOYED], cwd=TOP, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        folder = Path(process.stdout.readline().strip())
        time.sleep(after_s)
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + GONE_S
    while (left := _left(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    faults.check("kill -9 of a deployment", not left, f"after {after_s:.1f} s: {left} are left")


def _left(folder: Path) -> list[str]:
    """Return what is left of a deployment: its folder, and the processes that know of it."""
    assert folder.name.startswith(PREFIX)
    left = [str(folder)] if folder.exists() else []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            known = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in known:
            left.append(process.name)
    return left

"""Promise 6: what is installed is known to the last file, and a run talks to its own machine alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.reliability.faults import Faults

__all__ = ["MINUTES", "TITLE", "inject"]

TITLE = "dependencies are pinned, and a run needs no network"
MINUTES = 4

TOP = Path(__file__).parents[2]
HASHED = TOP / "constraints-hashed.txt"

#: In a network of its own, in which nothing but the machine itself can be reached.
COMMANDS = {
    "one process": ["-m", "fedrobust.simulate", "--workers", "1"],
    "two workers": ["-m", "fedrobust.simulate", "--workers", "2"],
}
SMALL = ["--clients", "2", "--rounds", "1", "--local-epochs", "1", "--networks", "1", "--quiet"]
SMALL += ["--data", "phantom(images=120, size=16)", "--out", "out"]


def inject(faults: Faults) -> None:
    """Inject the faults."""
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "tests/test_dependencies.py"]
    done = subprocess.run(words, cwd=TOP, capture_output=True, text=True, check=False)
    faults.check("pins and requests", done.returncode == 0, done.stdout[-500:])
    _without_network(faults)
    _change_a_hash(faults)
    _audit(faults)


def _without_network(faults: Faults) -> None:
    if shutil.which("unshare") is None or os.getuid() != 0 or shutil.which("ip") is None:
        faults.skip("no network", "it takes root, unshare and ip")
        return
    for name, words in COMMANDS.items():
        inner = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh", sys.executable, *words, *SMALL]
        folder = faults.folder / name.replace(" ", "-")
        folder.mkdir()
        environment = {**os.environ, "PYTHONPATH": str(TOP)}
        done = subprocess.run(
            ["unshare", "--net", *inner],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        faults.check("no network", done.returncode == 0, f"{name}: {done.stderr[-500:]}")


def _change_a_hash(faults: Faults) -> None:
    """Let an installation meet a file whose hash is not the one of the release."""
    wheel = faults.folder / "tiny-1.0-py3-none-any.whl"
    wheel.write_bytes(b"not what was pinned")
    file = faults.folder / "hashes.txt"
    file.write_text(f"tiny @ {wheel.as_uri()} --hash=sha256:{64 * '0'}\n")
    words = [sys.executable, "-m", "pip", "install", "--require-hashes", "--no-deps", "--no-index"]
    words += ["--target", str(faults.folder / "target"), "-r", str(file)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    refused = done.returncode != 0 and "DO NOT MATCH THE HASHES" in done.stderr
    faults.check("another file under a pinned name", refused, done.stderr[-500:])


def _audit(faults: Faults) -> None:
    """Ask the package index for known vulnerabilities of the pinned versions."""
    program = shutil.which("pip-audit", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if program is None:
        faults.skip("vulnerabilities", "pip-audit is not installed: make audit")
        return
    words = [program, "--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run([*words, "-r", str(HASHED)], capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        faults.skip("vulnerabilities", f"no answer: {done.stderr[-200:]}")
        return
    known = [package for package in packages if "vulns" in package]
    if len(known) < len(packages):
        faults.skip("vulnerabilities", f"of {len(packages) - len(known)} packages the index gives no data")
    for package in known:
        faults.check("vulnerabilities", not package["vulns"], f"{package['name']} {package['version']}")

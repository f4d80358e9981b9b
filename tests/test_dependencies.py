"""What is installed is pinned by hashes, and a run talks to this machine alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]

#: Becomes ``sitecustomize``: each Python process, workers included, notes addresses beyond this machine.
WATCH = """
import ipaddress, os, socket, sys

def outside(host):
    if host in (None, "", b"", "localhost", socket.gethostname()):
        return False
    try:
        address = ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host)
    except ValueError:
        return True
    return not (address.is_loopback or address.is_unspecified)

def note(event, arguments):
    if event in ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        hosts = [address[0]] if isinstance(address, tuple) else []
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        hosts = [arguments[0]]
    else:
        return
    for host in hosts:
        if outside(host):
            with open(os.environ["WATCHED"], "a") as file:
                file.write(f"{event} {host!r}\\n")
            raise OSError(f"no network in a run: {event} {host!r}")

sys.addaudithook(note)
with open(os.environ["WATCHED"] + ".processes", "a") as file:
    file.write(f"{os.getpid()}\\n")
"""


def watched(folder: Path, *words: str) -> tuple[list[str], int]:
    """Run a Python command; return what it asked of the network, and how many processes were watched."""
    (folder / "watch").mkdir()
    (folder / "watch" / "sitecustomize.py").write_text(WATCH)
    seen = folder / "seen"
    environment = {**os.environ, "PYTHONPATH": f"{folder / 'watch'}:{TOP}", "WATCHED": str(seen)}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    asked = seen.read_text().splitlines() if seen.exists() else []
    return asked, len(Path(f"{seen}.processes").read_text().splitlines())


RUN = [
    "-m",
    "fedrobust.simulate",
    "--clients",
    "2",
    "--rounds",
    "1",
    "--local-epochs",
    "1",
    "--networks",
    "1",
]
RUN += ["--data", "phantom(images=120, size=16)", "--out", "out", "--quiet"]


@pytest.mark.slow
def test_run_asks_nothing_of_the_network(tmp_path: Path) -> None:
    asked, processes = watched(tmp_path, *RUN, "--workers", "2")
    assert asked == [] and processes >= 3


def test_request_of_the_network_is_noticed(tmp_path: Path) -> None:
    code = (
        "import socket\n"
        "plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "for reach in (lambda: socket.create_connection(('192.0.2.1', 80), timeout=1),\n"
        "              lambda: socket.getaddrinfo('example.org', 80),\n"
        "              lambda: plain.sendto(b'', ('192.0.2.1', 9))):\n"
        "    try:\n        reach()\n    except OSError:\n        pass\n"
        "socket.socket().bind(('127.0.0.1', 0))\n"
    )
    asked, _ = watched(tmp_path, "-c", code)
    # Connecting first looks the address up.
    assert [line.split()[0] for line in asked] == [
        "socket.getaddrinfo",
        "socket.getaddrinfo",
        "socket.sendto",
    ]


def pinned(file: str) -> dict[str, set[str]]:
    """Return the versions of each package that a file of requirements names."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(
        r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", (TOP / file).read_text(), re.MULTILINE
    ):
        found.setdefault(re.sub("[-_.]+", "-", name).lower(), set()).add(version)
    return found


def test_versions_with_hashes_are_those_of_the_tests() -> None:
    tested, hashed = pinned("constraints.txt"), pinned("constraints-hashed.txt")
    differing = {name for name in tested.keys() & hashed.keys() if tested[name] != hashed[name]}
    assert not differing, f"{differing}: run `make constraints-hashed.txt`"
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["download"]]
    names = {re.sub("[-_.]+", "-", re.split(r"[^\w.-]", word)[0]).lower() for word in needed}
    assert names <= hashed.keys(), f"{names - hashed.keys()}: run `make constraints-hashed.txt`"


def test_each_version_has_a_hash() -> None:
    entries = re.split(r"\n(?=\S)", (TOP / "constraints-hashed.txt").read_text())
    packages = [entry for entry in entries if not entry.startswith("#")]
    assert len(packages) > 100
    for entry in packages:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry[:80]

"""The processes of a deployment: started with logs, and stopped with all that they started themselves."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedrobust.errors import UserError
from fedrobust.plugins.folders import search_path

__all__ = ["Processes", "Running", "Secret", "end_marked", "free_ports", "last_error"]

_MARK = "FEDROBUST_DEPLOYMENT"
#: Seconds that processes get to end by themselves before they are killed.
_GRACE_S = 1.5
#: Seconds until the system must have ended a killed process.
_KILL_S = 10.0
_CALL_S = 120
#: Below the ports that systems give to outgoing connections, which could take one before its server does.
_PORTS = range(20000, 32768)


@dataclass(frozen=True)
class Running:
    """A process under way and the file that holds its output."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def ended(self) -> bool:
        """Tell whether it has ended."""
        return self.process.poll() is not None

    def output(self) -> str:
        """Return all that it has written so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def last_error(self) -> str:
        """Return the reason why it has ended, or its last line."""
        code = self.process.poll()
        return f"killed by signal {-code}" if code is not None and code < 0 else last_error(self.output())


class Secret:
    """A private key in memory, which the process that is started with it reads as a file.

    It never has a name in a file system, so nothing of it is left when the processes end in whatever way. A
    system without such memory files (Linux has them) gets a file of mode 0600 in the deployment's folder.

    Attributes
    ----------
    path : str
        What the process calls it; it means nothing in another process.
    descriptor : int
        Of the file, to be passed on.
    """

    def __init__(self, content: bytes, folder: Path, name: str) -> None:
        """Write the content."""
        if hasattr(os, "memfd_create"):
            self.descriptor = os.memfd_create(name)
            self.path = f"/proc/self/fd/{self.descriptor}"
        else:
            self.path = str(folder / name)
            self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        with open(self.descriptor, "wb", closefd=False) as stream:
            stream.write(content)

    def close(self) -> None:
        """Give it up in this process."""
        os.close(self.descriptor)


class Processes:
    """Starts Flower's programs, each with a home of its own, and stops them with their children.

    Flower's programs start further ones, some in sessions of their own, where signals to a process group do
    not reach them. All inherit an environment variable that holds the deployment's folder, and are found by
    it.

    Parameters
    ----------
    folder : Path
        The deployment's temporary folder.
    variables : mapping of str to str, optional
        Further environment variables of all programs.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str] | None = None) -> None:
        """Start nothing yet."""
        self._folder = folder
        self._variables = dict(variables or {})
        self._started: list[Running] = []

    def environment(self, name: str) -> dict[str, str]:
        """Return a program's variables: Flower silent, a home of its own, and the plug-ins of this folder."""
        hosts = [os.environ.get("NO_PROXY", os.environ.get("no_proxy", "")), "127.0.0.1", "localhost"]
        direct = ",".join(host for host in hosts if host)
        return {
            **os.environ,
            _MARK: str(self._folder),
            "FLWR_HOME": str(self._folder / f"home-{name}"),
            **self._variables,
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            # Flower checks for tasks once a second; on one machine a shorter interval costs nothing.
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
            "PYTHONPATH": search_path(),
            "PYTHONUNBUFFERED": "1",
            "PATH": _search_path(),
            "NO_PROXY": direct,
            "no_proxy": direct,
        }

    def start(self, name: str, arguments: Sequence[str], secret: Secret | None = None) -> Running:
        """Start a program in the background, out of reach of the terminal's Ctrl-C; its secret is closed."""
        log = self._folder / f"{name}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [_program(arguments[0]), *arguments[1:]],
                env=self.environment(name),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=() if secret is None else (secret.descriptor,),
            )
        if secret is not None:
            secret.close()
        running = Running(name, process, log)
        self._started.append(running)
        return running

    def call(self, name: str, arguments: Sequence[str]) -> str:
        """Run a program of Flower's; return its output, or raise `UserError` with its last error."""
        try:
            done = subprocess.run(
                [_program(arguments[0]), *arguments[1:]],
                env=self.environment(name),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_CALL_S,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            raise UserError(f"'{' '.join(arguments[:3])}' gets no answer within {_CALL_S} seconds") from None
        if done.returncode:
            raise UserError(f"'{' '.join(arguments[:3])}' fails: {last_error(done.stdout + done.stderr)}")
        return done.stdout

    def stop(self) -> None:
        """End all processes that were started, and their children."""
        end_marked(self._folder, self._reap)
        for running in self._started:
            running.process.wait()

    def _reap(self) -> None:
        """Take note of own processes that have ended, which would count as alive."""
        for running in self._started:
            running.process.poll()


def end_marked(folder: Path, reap: Callable[[], object] = lambda: None) -> None:
    """End all processes of the deployment with this folder, their children's children included."""
    for number, patience_s in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, _KILL_S)):
        deadline = time.monotonic() + patience_s
        signalled: set[int] = set()
        while alive := _alive(folder, reap):
            for pid in alive - signalled:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
            signalled |= alive
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)


def _alive(folder: Path, reap: Callable[[], object]) -> set[int]:
    reap()
    return _marked(f"{_MARK}={folder}") - {os.getpid()}


def _marked(word: str) -> set[int]:
    """Return the ids of processes with this word in their environment."""
    if not Path("/proc/self/environ").exists():
        listing = subprocess.run(
            ["ps", "-A", "-E", "-ww", "-o", "pid=,command="], capture_output=True, text=True, check=False
        )
        lines = (line.split() for line in listing.stdout.splitlines())
        return {int(line[0]) for line in lines if line and word in line[1:]}
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        # A process may end meanwhile, or belong to another user.
        with contextlib.suppress(OSError):
            if word.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
    return found


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that are not in use."""
    free: list[int] = []
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            free.append(port)
        if len(free) == count:
            return free
    raise UserError(f"there are no {count} free ports from {_PORTS.start} to {_PORTS.stop - 1} on 127.0.0.1")


def last_error(log: str) -> str:
    """Return the reason why a program of Flower's ended, from its log: its last error, or its last line."""
    lines = [_bare(line) for line in log.splitlines()]
    telling = [
        line for line in lines if line and not re.match(r"(INFO|DEBUG|WARNING|For more information)\b", line)
    ]
    errors = [place for place, line in enumerate(telling) if re.match(r"ERROR\b", line)]
    chosen = telling[errors[-1] :][:3] if errors else telling[-1:]
    return re.sub(r"^ERROR\s*(:|\[\S+\])?\s*", "", " ".join(chosen)) or "its log is empty"


def _bare(line: str) -> str:
    """Return a log's line without colours and time."""
    return re.sub(r"^\d{4}-\d\d-\d\dT\S+\s+", "", re.sub(r"\x1b\[[0-9;]*m", "", line)).strip()


def _search_path() -> str:
    """Return where programs are searched for: beside this Python first, where Flower's are installed."""
    places = [sysconfig.get_path("scripts"), str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    return os.pathsep.join(dict.fromkeys(place for place in places if place))


def _program(name: str) -> str:
    path = shutil.which(name, path=_search_path())
    if path is None:
        raise UserError(f"there is no program '{name}' beside {sys.executable}; install flwr there")
    return path

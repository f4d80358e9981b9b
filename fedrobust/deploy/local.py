"""A deployment on this machine: a SuperLink with TLS, SuperNodes with registered keys, and one run."""

from __future__ import annotations

import functools
import json
import socket
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from typing import Self

import tomli_w

from fedrobust.deploy.credentials import NodeKey, make_credentials, make_node_key
from fedrobust.deploy.keeper import Keeper, remove_abandoned
from fedrobust.deploy.processes import Processes, Running, Secret, free_ports
from fedrobust.engines.signals import ending_on_signals, ignoring_signals
from fedrobust.errors import UserError
from fedrobust.flower.registered import REGISTERED_NODES
from fedrobust.settings import Settings

__all__ = ["LocalDeployment", "node_config"]

_CONNECTION = "deployment"
_START_S = 60.0
_HOME = "home-flwr"
#: Flower's programs, behind the guard.
_GUARDED = (sys.executable, "-m", "fedrobust.deploy.guarded")


class LocalDeployment:
    """A SuperLink and SuperNodes as processes on 127.0.0.1, ended with the `with` block.

    Certificates, public keys, logs and Flower's homes lie in a temporary folder that only its owner can
    enter; private keys are in memory. Ctrl-C, SIGTERM and any error end the block, hence every process, and
    remove the folder; a keeper does both if this process is killed.

    Parameters
    ----------
    hospitals : int
        How many SuperNodes there will be.

    Attributes
    ----------
    folder : Path
        The temporary folder, mode 0700.
    processes : Processes
    abandoned : list of Path
        Folders of earlier deployments that had been killed, which were removed at the start.
    """

    def __init__(self, hospitals: int) -> None:
        """Make nothing yet; `__enter__` makes the folder and starts the SuperLink."""
        self._hospitals = hospitals
        self._nodes: list[Running] = []
        self._numbers: dict[int, int] = {}
        self._noted: set[str] = set()

    def __enter__(self) -> Self:
        """Start the SuperLink with a certificate of its own, open to SuperNodes with registered keys only.

        Raises
        ------
        UserError
            If it does not start; the sentence ends with its last error.
        """
        self.abandoned = remove_abandoned()
        self._signals = ending_on_signals()
        self._signals.__enter__()
        self._keeper = Keeper()
        self.folder = self._keeper.folder
        self._registered = self.folder / "registered.json"
        self.processes = Processes(self.folder, {REGISTERED_NODES: str(self._registered)})
        try:
            self._start_link()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop every process and remove the folder."""
        self.close()

    def close(self) -> None:
        """Stop every process and remove the folder; further signals have to wait."""
        with ignoring_signals():
            self.processes.stop()
            self._keeper.close()
        self._signals.__exit__(None, None, None)

    def _start_link(self) -> None:
        self._port, *self._node_ports = free_ports(1 + self._hospitals)
        self._credentials = made = make_credentials(self.folder / "keys")
        connection = {"address": self.address, "root-certificates": str(made.authority)}
        home = self.folder / _HOME
        home.mkdir(mode=0o700)
        (home / "config.toml").write_text(tomli_w.dumps({"superlink": {_CONNECTION: connection}}))
        key = Secret(made.key, self.folder, "superlink.key")
        tls = ["--ssl-ca-certfile", str(made.authority), "--ssl-certfile", str(made.certificate)]
        self._link = self.processes.start(
            "superlink",
            [*_GUARDED, "superlink", *tls, "--ssl-keyfile", key.path, "--enable-supernode-auth"]
            + ["--host", "127.0.0.1", "--port", str(self._port), "--disable-runtime-dependency-installation"],
            key,
        )
        self._wait([self._link], self._answers, "the SuperLink")

    @property
    def address(self) -> str:
        """Return where the SuperLink listens, as ``host:port``."""
        return f"127.0.0.1:{self._port}"

    def _answers(self) -> bool:
        """Tell whether the SuperLink shows the certificate made for it."""
        context = ssl.create_default_context(cafile=str(self._credentials.authority))
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=5) as plain:
                context.wrap_socket(plain, server_hostname="127.0.0.1").close()
        except OSError:
            return False
        return True

    def add_hospital(self, number: int, own_data: str | None = None, *, registered: bool = True) -> Running:
        """Make a key, register it and start the hospital's SuperNode with it.

        Parameters
        ----------
        number : int
            The hospital's number, its SuperNode's ``partition-id``.
        own_data : str, optional
            A data source of its own, for its node config.
        registered : bool
            False leaves the key unregistered, so that the SuperLink refuses the SuperNode.
        """
        key = make_node_key(self.folder / "keys", f"hospital-{number}")
        if registered:
            self._numbers[self.register(key)] = number
        private = Secret(key.private, self.folder, f"hospital-{number}")
        arguments = [*_GUARDED, "supernode", "--superlink", self.address]
        arguments += ["--root-certificates", str(self._credentials.authority)]
        arguments += ["--auth-supernode-private-key", private.path]
        arguments += ["--host", "127.0.0.1", "--port", str(self._node_ports[number])]
        arguments += ["--node-config", node_config(number, self._hospitals, own_data)]
        node = self.processes.start(f"hospital-{number}", arguments, private)
        self._nodes.append(node)
        return node

    def register(self, key: NodeKey) -> int:
        """Register a SuperNode's public key; return the id of its node."""
        words = ["flwr", "supernode", "register", str(key.public), _CONNECTION, "--format", "json"]
        answer = json.loads(self.processes.call("flwr", words))
        if not answer["success"]:
            raise UserError(f"the SuperLink refuses the key {key.public.name}: {answer['error-message']}")
        return int(answer["node-id"])

    def wait_for_hospitals(self) -> None:
        """Wait until every SuperNode is connected; `UserError` with the last error of one that has ended."""
        for node in self._nodes:
            self._wait(
                [self._link, node], functools.partial(_connected, node), f"the SuperNode of {node.name}"
            )

    def _wait(self, needed: Sequence[Running], ready: Callable[[], bool], what: str) -> None:
        """Wait until this is ready; `UserError` if a process that it needs ends, or time runs out."""
        deadline = time.monotonic() + _START_S + 3 * self._hospitals
        while not ready():
            for running in needed:
                if running.ended():
                    raise UserError(f"{what} does not start: {running.last_error()}")
            if time.monotonic() > deadline:
                raise UserError(f"{what} is not ready in time; its last error: {needed[-1].last_error()}")
            time.sleep(0.1)

    def nodes(self) -> list[dict[str, object]]:
        """Return the SuperNodes that the SuperLink knows, as `flwr supernode list` does."""
        listing = self.processes.call("flwr", ["flwr", "supernode", "list", _CONNECTION, "--format", "json"])
        return list(json.loads(listing)["nodes"])

    def start_run(self, settings: Settings) -> Running:
        """Start the run; the process that is returned shows the ServerApp's log and ends with the run.

        Flower takes the settings from the app's own table: its flag `--run-config` cannot hold a value with
        both kinds of quotes. The app is this table and two names, so every process runs the installed
        fedrobust.
        """
        self._registered.write_text(json.dumps(self._numbers))
        app = self.folder / "app"
        app.mkdir()
        config = {
            key.replace("_", "-"): value for key, value in settings.model_dump().items() if value is not None
        }
        components = {"serverapp": "fedrobust.app:server_app", "clientapp": "fedrobust.app:client_app"}
        project = {
            "name": "fedrobust-deployment",
            "version": "1.0.0",
            "description": "fedrobust",
            "license": "Apache-2.0",
        }
        flower = {"publisher": "fedrobust", "components": components, "config": config}
        (app / "pyproject.toml").write_text(
            tomli_w.dumps({"project": project, "tool": {"flwr": {"app": flower}}})
        )
        return self.processes.start("flwr", ["flwr", "run", str(app), _CONNECTION, "--stream"])

    def ended_nodes(self) -> list[str]:
        """Return a sentence for each SuperNode that has ended since the last call.

        Raises
        ------
        UserError
            If the SuperLink has ended.
        """
        if self._link.ended():
            raise UserError(f"the SuperLink has ended during the run: {self._link.last_error()}")
        gone = [node for node in self._nodes if node.ended() and node.name not in self._noted]
        self._noted |= {node.name for node in gone}
        return [f"the SuperNode of {node.name} has ended: {node.last_error()}" for node in gone]

    def outcome(self) -> tuple[str, str]:
        """Return the run's status, such as ``finished:completed``, and what Flower says about it."""
        listing = self.processes.call("flwr", ["flwr", "list", _CONNECTION, "--format", "json"])
        runs = json.loads(listing)["runs"]
        return (runs[0]["status"], runs[0]["status-details"]) if runs else ("not started", "")


def _connected(node: Running) -> bool:
    return "SuperNode ID:" in node.output()


def node_config(number: int, hospitals: int, own_data: str | None = None) -> str:
    """Return what `flower-supernode --node-config` takes for a hospital.

    Raises
    ------
    UserError
        If the data's name holds both kinds of quotes, which Flower cannot read.
    """
    parts = [f"partition-id={number}", f"num-partitions={hospitals}"]
    if own_data is not None:
        quote = "'" if '"' in own_data or "\\" in own_data else '"'
        if quote in own_data:
            raise UserError(
                f"--node-data {number}={own_data}: use one kind of quotes only; Flower cannot read both"
            )
        parts.append(f"data={quote}{own_data}{quote}")
    return " ".join(parts)

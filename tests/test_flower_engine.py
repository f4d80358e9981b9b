"""The flower engine on a running Ray cluster: two real nodes, and addresses at which there is none."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedrobust import Settings, UserError
from fedrobust.engines import flower
from fedrobust.flower import compat
from fedrobust.settings import load_settings

TOP = Path(__file__).resolve().parents[1]
SMALL = (
    '--clients 4 --malicious 4 --rounds 2 --local-epochs 1 --networks 1 --data "phantom(images=240, size=16)"'
)

#: Says where it runs, in the folder that the command was started in, and leaves the training as it is.
TELL = """
from pathlib import Path

import ray

from fedrobust.federation import Attack, Update


class Tell(Attack):
    def poison_update(self, update: Update) -> Update:
        if ray.is_initialized():
            node = ray.get_runtime_context().get_node_id()
            Path("nodes", f"{update.node}-{update.round}").write_text(node)
        return update.with_delta(2 * update.delta)
"""

#: Ends its own process in round 1.
DIES = """
import os
import signal

from fedrobust.federation import Attack, Update


class Dies(Attack):
    def poison_update(self, update: Update) -> Update:
        if update.round == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return update
"""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


#: Cells that tell the node that ran them, and cells whose process dies, which are tried again with workers.
SUITE = """
[base]
clients = 4
rounds = 2
local-epochs = 1
networks = 1
data = "phantom(images=240, size=16)"
threat = ["tell:1", "dies:1"]

[defences]
fedavg = "fedavg"
median = "median"
"""


def simulate(folder: Path, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a simulation in a folder of the user's, apart from the project's."""
    return command(folder, "simulate", *shlex.split(SMALL), *more, **environment)


def command(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fedrobust", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(TOP), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def start_node(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            str(Path(sys.executable).with_name("ray")),
            "start",
            "--block",
            "--num-cpus=1",
            "--disable-usage-stats",
        ]
        + [f"--dashboard-agent-listen-port={free_port()}", *arguments],
        start_new_session=True,
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def stop_node(node: subprocess.Popen[bytes]) -> None:
    """Let Ray end what it started, then make sure of it: the node leads a process group of its own."""
    node.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        node.wait(15)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(node.pid, signal.SIGKILL)
    node.wait()


def living_nodes(address: str) -> set[str]:
    import ray

    ray.init(address=address, log_to_driver=False, logging_level="error")
    try:
        return {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    finally:
        ray.shutdown()


def wait_for_nodes(address: str, count: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(UserError):
            flower._answering(address)
            if len(living_nodes(address)) == count:
                return
        assert time.monotonic() < deadline, "the Ray cluster does not start"
        time.sleep(0.3)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Start a cluster of two nodes with one CPU each; give its address."""
    # Ray's sockets lie there, and a socket's path may have about 100 characters.
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    address = f"127.0.0.1:{free_port()}"
    ports = [f"--port={address.partition(':')[2]}", f"--ray-client-server-port={free_port()}"]
    nodes = [start_node("--head", *ports, "--include-dashboard=false", f"--temp-dir={folder}")]
    try:
        wait_for_nodes(address, 1)
        nodes.append(start_node(f"--address={address}"))
        wait_for_nodes(address, 2)
        yield address
    finally:
        for node in reversed(nodes):
            stop_node(node)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a working folder with plug-ins of its own."""
    for place in ("clients", "nodes"):
        (tmp_path / place).mkdir()
    (tmp_path / "clients" / "tell.py").write_text(TELL)
    (tmp_path / "clients" / "dies.py").write_text(DIES)
    return tmp_path


def only_run(out: Path) -> Path:
    (run,) = out.iterdir()
    return run


@pytest.mark.slow
def test_a_cluster_of_two_nodes_gives_the_same_bits_and_stays_up(cluster: str, folder: Path) -> None:
    before = living_nodes(cluster)
    attack = ("--attack", "tell", "--strategy", "fedavg")
    done = simulate(folder, *attack, "--engine", "flower", "--ray-address", cluster, "--out", "far")
    assert done.returncode == 0, done.stderr
    local = simulate(folder, *attack, "--workers", "1", "--out", "near")
    assert local.returncode == 0, local.stderr
    far, near = only_run(folder / "far"), only_run(folder / "near")
    assert far.name == near.name
    for name in ("rounds.jsonl", "model.safetensors"):
        assert (far / name).read_bytes() == (near / name).read_bytes()
    named = {path.name: path.read_text() for path in (folder / "nodes").iterdir()}
    assert set(named) == {f"{hospital}-{round}" for hospital in range(4) for round in (1, 2)}
    assert set(named.values()) == before == living_nodes(cluster)


@pytest.mark.slow
def test_cells_of_a_suite_are_tasks_of_the_cluster(cluster: str, folder: Path) -> None:
    (folder / "mine.toml").write_text(SUITE)
    before = living_nodes(cluster)
    far = command(folder, "benchmark", "mine.toml", "--ray-address", cluster, "--out", "far")
    assert far.returncode == 0, far.stderr
    assert "6 of 6 done, 0 failed" in far.stderr
    assert living_nodes(cluster) == before
    # Complete cells: each names one node, which the others overwrote.
    assert {path.read_text() for path in (folder / "nodes").iterdir()} <= before
    near = command(folder, "benchmark", "mine.toml", "--jobs", "1", "--out", "near")
    assert near.returncode == 0, near.stderr
    for name in ("mine/table.csv", "mine/suite.json"):
        assert (folder / "far" / name).read_bytes() == (folder / "near" / name).read_bytes()
    again = command(folder, "benchmark", "mine.toml", "--ray-address", cluster, "--out", "far")
    assert again.returncode == 0 and "6 of 6 cells are finished already" in again.stderr


@pytest.mark.slow
def test_a_dead_process_costs_its_hospital_that_round(cluster: str, folder: Path) -> None:
    mine = ("--attack", "dies", "--malicious", "1", "--strategy", "fedavg")
    # 'auto' has Ray's own meaning, so the environment may name the cluster.
    done = simulate(folder, *mine, "--engine", "flower", "--ray-address", "auto", RAY_ADDRESS=cluster)
    assert done.returncode == 0, done.stderr
    run = only_run(folder / "runs")
    (dead,) = json.loads((run / "manifest.json").read_text())["malicious"]
    faults = [json.loads(line)["faults"] for line in (run / "rounds.jsonl").read_text().splitlines()]
    assert [fault["hospital"] for fault in faults[0]] == [dead] and faults[1] == []
    assert len(living_nodes(cluster)) == 2


def test_address_without_a_cluster_is_refused_in_one_sentence(folder: Path) -> None:
    done = simulate(folder, "--engine", "flower", "--ray-address", f"127.0.0.1:{free_port()}")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "no Ray cluster answers there" in done.stderr
    assert not (folder / "runs").exists()


def test_something_else_that_listens_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flower, "_ANSWER_S", 0.3)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(UserError, match="no Ray cluster answers there"),
    ):
        flower._answering(f"127.0.0.1:{silent.getsockname()[1]}")


@pytest.mark.parametrize("address", ["somewhere", "local", "ray://127.0.0.1:10001"])
def test_malformed_cluster_address_is_refused(address: str) -> None:
    with pytest.raises(UserError, match=f"--ray-address {address}: is not the host:port"):
        flower._answering(address)


def test_the_address_is_for_flower_and_does_not_name_the_run() -> None:
    with pytest.raises(UserError, match="ray-address here:1 is for the flower engine"):
        load_settings({"ray-address": "here:1"})
    joined = Settings(engine="flower", ray_address="here:1")
    assert joined.digest() == Settings().digest()
    assert Settings(ray_address="").ray_address is None


def test_flower_is_as_it_was_after_a_run() -> None:
    from flwr.simulation.ray_transport import ray_actor

    before = ray_actor.pool_size_from_resources
    with compat.actors_limited_to(3):
        assert ray_actor.pool_size_from_resources({}) == 3
    assert ray_actor.pool_size_from_resources is before

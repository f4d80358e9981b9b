"""`fedrobust deploy-local`: real processes, the local engine's bits, checked keys, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key
from federations import tiny
from flwr.common.config import parse_config_args
from helpers import processes_of

from fedrobust import UserError, run
from fedrobust.deploy import command, local
from fedrobust.deploy.command import deploy, own_data
from fedrobust.deploy.credentials import make_credentials, make_node_key
from fedrobust.deploy.local import LocalDeployment, node_config
from fedrobust.deploy.processes import Processes, Secret, free_ports, last_error
from fedrobust.runtime.progress import Progress

PLUGIN = '''
from fedrobust.federation import Defence, Updates, Verdict


class MyMean(Defence):
    """Leaves out the hospital with the largest update."""

    def weigh(self, updates: Updates) -> Verdict:
        norms = updates.norms()
        return Verdict(weight=norms < norms.max(), score=norms)
'''


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Run a deployment as a user does, from a folder with a strategy of the user's."""
    folder = tmp_path_factory.mktemp("deployed")
    (folder / "strategies").mkdir()
    (folder / "strategies" / "my_mean.py").write_text(PLUGIN)
    (folder / "temporary").mkdir()
    arguments = [
        "--clients",
        "3",
        "--malicious",
        "1",
        "--attack",
        "label-flip + poisoned-fl",
        "--rounds",
        "2",
        "--local-epochs",
        "1",
        "--networks",
        "1",
    ]
    arguments += ["--data", "phantom(images=240, size=16)", "--strategy", "my-mean", "--out", "out", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "fedrobust", "deploy-local", *arguments],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder / "temporary"), "TORCHINDUCTOR_CACHE_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    yield {"folder": folder, "done": done, "left": processes_of(folder / "temporary")}


@pytest.mark.slow
def test_deployment_gives_the_bits_of_the_local_engine(
    deployed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = deployed["done"]
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    monkeypatch.syspath_prepend(str(deployed["folder"]))
    here = run(tiny(tmp_path, clients=3, malicious=1, attack="label-flip + poisoned-fl", strategy="my-mean"))
    there = Path(summary["run"])
    assert there == deployed["folder"] / "out" / here.folder.name
    names = ("rounds.jsonl", "verdicts.jsonl", "client_metrics.jsonl", "evaluation.json")
    for name in (*names, "examples.safetensors", "model.safetensors"):
        assert (here.folder / name).read_bytes() == (there / name).read_bytes(), name
    assert {f.name for f in there.iterdir()} == {f.name for f in here.folder.iterdir()}
    assert json.loads((there / "manifest.json").read_text())["deployment"]["own_data"] == {}


@pytest.mark.slow
def test_a_deployment_leaves_no_process_and_no_folder(deployed: dict[str, Any]) -> None:
    assert deployed["done"].returncode == 0, deployed["done"].stderr
    assert deployed["left"] == []
    assert list((deployed["folder"] / "temporary").iterdir()) == []


@pytest.mark.slow
def test_a_supernode_with_an_unregistered_key_is_refused() -> None:
    with LocalDeployment(2) as deployment:
        known = deployment.add_hospital(0)
        stranger = deployment.add_hospital(1, registered=False)
        assert stranger.process.wait(timeout=60) != 0
        with pytest.raises(UserError, match=r"hospital-1 does not start: .*Failed to activate SuperNode"):
            deployment.wait_for_hospitals()
        assert not known.ended()
        (node,) = deployment.nodes()
        assert node["status"] == "online"
        (sentence,) = deployment.ended_nodes()
        assert "hospital-1 has ended" in sentence and deployment.ended_nodes() == []
    assert known.ended() and not deployment.folder.exists()


@pytest.mark.slow
def test_an_end_by_sigterm_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import time\nfrom fedrobust.deploy.local import LocalDeployment\n"
        "with LocalDeployment(1) as deployment:\n"
        "    print(deployment.folder, flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert processes_of(folder)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 128 + signal.SIGTERM
    assert processes_of(folder) == [] and not folder.exists()


@pytest.mark.slow
def test_superlink_that_does_not_start_gives_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(local, "free_ports", lambda count: [taken.getsockname()[1]] * count)
        with (
            pytest.raises(UserError, match="the SuperLink does not start: .*address already in use"),
            LocalDeployment(1),
        ):
            pass


def test_children_in_other_sessions_are_stopped(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    child = "import subprocess, sys, time; time.sleep(60)"
    code = (
        f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True)"
    )
    parent = processes.start("parent", [sys.executable, "-c", code])
    assert parent.process.wait(timeout=30) == 0
    assert len(processes_of(tmp_path)) == 1
    processes.stop()
    assert processes_of(tmp_path) == []


def test_private_keys_are_in_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    made, key = make_credentials(folder), make_node_key(folder, "hospital-0")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    private = load_ssh_private_key(key.private, None)
    assert private.public_key() == load_ssh_public_key(key.public.read_bytes())
    assert b"PRIVATE KEY" in made.key and b"PRIVATE KEY" in key.private
    assert not any(b"PRIVATE KEY" in file.read_bytes() for file in folder.iterdir())
    for held in (made, key):
        assert "PRIVATE" not in repr(held)


@pytest.mark.parametrize("in_memory", [True, False])
def test_secret_is_read_by_the_process_that_is_given_it(
    in_memory: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not in_memory:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    processes = Processes(tmp_path)
    secret = Secret(b"open sesame", tmp_path, "key")
    files = [file for file in tmp_path.iterdir() if file.is_file()]
    assert len(files) == (0 if in_memory and hasattr(os, "memfd_create") else 1)
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
    # Servers read a key more than once.
    code = f"print(*(open({secret.path!r}).read() for _ in range(2)))"
    reader = processes.start("reader", [sys.executable, "-c", code], secret)
    assert reader.process.wait(timeout=30) == 0
    assert reader.output() == "open sesame open sesame\n"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(secret.descriptor)


def test_the_certificate_is_for_this_machine_and_signed_by_the_authority(tmp_path: Path) -> None:
    made = make_credentials(tmp_path / "keys")
    authority, server = (
        x509.load_pem_x509_certificate(file.read_bytes()) for file in (made.authority, made.certificate)
    )
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    assert (server.not_valid_after_utc - server.not_valid_before_utc).days <= 8
    assert not server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


@pytest.mark.parametrize("data", [None, "medmnist:hospital_a", "phantom(images=100, size=16)", 'x(a="b c")'])
def test_flower_reads_the_node_config(data: str | None) -> None:
    expected = {"partition-id": 1, "num-partitions": 3} | ({} if data is None else {"data": data})
    assert parse_config_args([node_config(1, 3, data)]) == expected


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["phantom"], "NUMBER=SOURCE"),
        (["-1=phantom"], "NUMBER=SOURCE"),
        (["3=phantom"], "numbered 0 to 2"),
        (["0=phantom", "0=medmnist:a"], "named twice"),
        (["0=phantom(size"], "not of the form"),
        (["0=x(a=\"b\", c='d')"], "one kind of quotes"),
    ],
)
def test_mistakes_in_node_data(given: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        own_data(given, 3)


def test_node_data() -> None:
    assert own_data(["2=medmnist:a", "0= phantom(size=16)"], 3) == {0: "phantom(size=16)", 2: "medmnist:a"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"engine": "flower"}, "leave --engine out"),
        ({"strategy": "fedavvg"}, "did you mean 'fedavg'"),
        ({"malicious": 2, "attack": "alie(z=1.5)"}, "'alie' needs to see several hospitals' updates"),
    ],
)
def test_mistakes_are_found_before_anything_starts(
    changes: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "LocalDeployment", lambda hospitals: pytest.fail("a deployment was started"))
    with pytest.raises(UserError, match=words):
        deploy(tiny(tmp_path, **changes), Progress(quiet=True))


def test_free_ports_are_different_and_free() -> None:
    ports = free_ports(5)
    assert len(set(ports)) == 5 and all(20000 <= port < 32768 for port in ports)


def test_last_error_are_the_error() -> None:
    log = (
        "INFO: up\n\x1b[91mERROR \x1b[0m:     Exit Code: 305\nFailed to connect.\n[code: 2004]\n\n"
        "For more information, see\nINFO: bye"
    )
    assert last_error(log) == "Exit Code: 305 Failed to connect. [code: 2004]"
    taken = (
        "2026-01-01T10:00:00.1Z ERROR [uvicorn.error] [Errno 98] in use\n"
        "2026-01-01T10:00:00.2Z INFO [uvicorn.error] bye"
    )
    assert last_error(taken) == "[Errno 98] in use"
    assert last_error("INFO: x\nPath does not point to a file.\n") == "Path does not point to a file."
    assert last_error("") == "its log is empty"

"""A real federation is closed: who may talk to its servers, in whose name, and how much."""

from __future__ import annotations

import asyncio
import datetime
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.proto.fleet_pb2 import ActivateNodeRequest, PullMessagesRequest, PushMessagesRequest
from flwr.proto.message_pb2 import Message, Metadata, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message
from helpers import processes_of

from fedrobust import UserError
from fedrobust.deploy.credentials import make_credentials, make_node_key
from fedrobust.deploy.guard import LARGEST_REQUEST, REPLY_ALLOWANCE, SIGNATURE_S, FleetRules, Guard
from fedrobust.deploy.keeper import PREFIX, Keeper, remove_abandoned
from fedrobust.deploy.local import LocalDeployment
from fedrobust.deploy.processes import Processes, Secret

#: A user who owns nothing.
NOBODY = 65534


@dataclass
class Hospital:
    """A registered hospital that writes its own requests."""

    deployment: LocalDeployment
    key: ec.EllipticCurvePrivateKey
    node: int

    @classmethod
    def register(cls, deployment: LocalDeployment, name: str) -> Hospital:
        made = make_node_key(deployment.folder / "keys", name)
        node = deployment.register(made)
        key = load_ssh_private_key(made.private, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return cls(deployment, key, node)

    @property
    def public(self) -> bytes:
        return public_key_to_bytes(self.key.public_key())

    def headers(self, *, age_s: float = 0, public: bytes | None = None) -> dict[str, str]:
        moment = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=age_s)).isoformat()
        return {
            "flwr-public-key": b64encode(self.public if public is None else public).decode(),
            "flwr-timestamp": moment,
            "flwr-signature": b64encode(sign_message(self.key, moment.encode())).decode(),
            "content-type": "application/protobuf",
        }

    def send(self, path: str, content: Any, headers: dict[str, str] | None = None) -> httpx.Response:
        trusted = ssl.create_default_context(cafile=str(self.deployment.folder / "keys" / "authority.pem"))
        with httpx.Client(verify=trusted, trust_env=False) as client:
            address = f"https://{self.deployment.address}/v1/fleet/{path}"
            sent = content.SerializeToString()
            return client.post(address, content=sent, headers=self.headers() if headers is None else headers)

    def activation(self) -> ActivateNodeRequest:
        return ActivateNodeRequest(public_key=self.public, heartbeat_interval=30)


@pytest.fixture(scope="module")
def deployment() -> Iterator[LocalDeployment]:
    with LocalDeployment(4) as made:
        yield made


@pytest.fixture(scope="module")
def honest(deployment: LocalDeployment) -> Hospital:
    return Hospital.register(deployment, "honest")


@pytest.fixture(scope="module")
def liar(deployment: LocalDeployment) -> Hospital:
    return Hospital.register(deployment, "liar")


REQUEST_AS = """
import encodings.idna, http.client, os, ssl, sys, urllib.request
os.setuid(int(sys.argv[1]))
link = urllib.request.HTTPSHandler(context=ssl._create_unverified_context())
headers = {"content-type": "application/protobuf", "x-forwarded-for": "127.0.0.1"}
request = urllib.request.Request(f"https://{sys.argv[2]}{sys.argv[3]}", b"", headers)
try:
    print(urllib.request.build_opener(urllib.request.ProxyHandler({}), link).open(request).status)
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
"""


def request_as(user: int, deployment: LocalDeployment, path: str) -> str:
    """Return the answer to an empty request of a process of another user."""
    words = [sys.executable, "-c", REQUEST_AS, str(user), deployment.address, path]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize(
    "path", ["/v1/control/list-nodes", "/v1/control/start-run", "/v1/runtime/acquire-task"]
)
def test_other_user_of_the_machine_is_refused(deployment: LocalDeployment, path: str) -> None:
    assert request_as(NOBODY, deployment, path).startswith("403 ")


@pytest.mark.slow
def test_own_user_is_not_refused(deployment: LocalDeployment, honest: Hospital) -> None:
    assert request_as(os.getuid(), deployment, "/v1/runtime/acquire-task").startswith("200")
    assert str(honest.node) in {node["node-id"] for node in deployment.nodes()}


@pytest.mark.slow
def test_unknown_key_is_refused(deployment: LocalDeployment) -> None:
    stranger = Hospital(deployment, ec.generate_private_key(ec.SECP384R1()), 1)
    assert stranger.send("activate-node", stranger.activation()).status_code >= 400
    assert stranger.send("pull-messages", PullMessagesRequest(node=Node(node_id=1))).status_code == 401


@pytest.mark.slow
def test_activation_is_accepted_and_refused_when_it_is_replayed(honest: Hospital) -> None:
    headers, content = honest.headers(), honest.activation()
    assert honest.send("activate-node", content, headers).status_code == 200
    again = honest.send("activate-node", content, headers)
    assert again.status_code == 401 and "used before" in again.text
    assert honest.send("activate-node", content, honest.headers(age_s=320)).status_code == 401


@pytest.mark.slow
def test_key_is_registered_once(deployment: LocalDeployment) -> None:
    made = make_node_key(deployment.folder / "keys", "twice")
    deployment.register(made)
    with pytest.raises(UserError, match="already in use"):
        deployment.register(made)


@pytest.mark.slow
def test_signature_of_another_key_is_refused(honest: Hospital, liar: Hospital) -> None:
    headers = liar.headers(public=honest.public)
    assert liar.send("activate-node", honest.activation(), headers).status_code == 401


@pytest.mark.slow
def test_registered_hospital_cannot_speak_for_another(honest: Hospital, liar: Hospital) -> None:
    pulled = liar.send("pull-messages", PullMessagesRequest(node=Node(node_id=honest.node)))
    assert pulled.status_code == 401
    reply = Message(metadata=Metadata(src_node_id=honest.node))
    pushed = liar.send(
        "push-messages", PushMessagesRequest(node=Node(node_id=liar.node), messages_list=[reply])
    )
    assert pushed.status_code == 403 and f"in the name of SuperNode {honest.node}" in pushed.text


@pytest.mark.slow
def test_registered_hospital_cannot_fill_the_memory(liar: Hospital) -> None:
    # Nothing of it is read: the answer comes though no byte of the content is sent.
    trusted = ssl.create_default_context(cafile=str(liar.deployment.folder / "keys" / "authority.pem"))
    host, _, port = liar.deployment.address.partition(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        trusted.wrap_socket(plain, server_hostname=host) as link,
    ):
        link.sendall(b"POST /v1/fleet/push-object HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000000\r\n\r\n")
        assert link.recv(4096).startswith(b"HTTP/1.1 413 ")
    piece = PushObjectRequest(node=Node(node_id=liar.node), object_content=bytes(1 << 20))
    refused = liar.send("push-object", piece)
    assert refused.status_code == 413 and "longer than what it was sent" in refused.text


@pytest.mark.slow
def test_plain_text_is_not_answered(deployment: LocalDeployment) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.post(f"http://{deployment.address}/v1/fleet/pull-messages", content=b"", trust_env=False)


@pytest.mark.slow
def test_supernodes_with_a_wrong_authority_or_plain_text_do_not_connect(
    deployment: LocalDeployment, tmp_path: Path
) -> None:
    processes = Processes(tmp_path)
    registered = make_node_key(tmp_path, "hospital")
    deployment.register(registered)
    other = make_credentials(tmp_path / "other")
    words = ["flower-supernode", "--superlink", deployment.address, "--max-retries", "0"]
    key = Secret(registered.private, tmp_path, "key")
    trusting = ["--root-certificates", str(other.authority), "--auth-supernode-private-key", key.path]
    nodes = [
        processes.start("wrong-authority", [*words, *trusting, "--port", "20001"], key),
        processes.start("plain-text", [*words, "--insecure", "--port", "20002"]),
    ]
    try:
        assert all(node.process.wait(timeout=60) for node in nodes)
    finally:
        processes.stop()
    assert "CERTIFICATE_VERIFY_FAILED" in nodes[0].output()
    assert not any("SuperNode ID" in node.output() for node in nodes)


DEPLOYED = """
import time
from fedrobust.deploy.local import LocalDeployment
with LocalDeployment(1) as deployment:
    deployment.add_hospital(0)
    deployment.wait_for_hospitals()
    print(deployment.folder, flush=True)
    time.sleep(60)
"""


def gone(folder: Path, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not folder.exists() and not processes_of(folder):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
def test_killed_deployment_leaves_no_process_and_no_folder() -> None:
    with subprocess.Popen([sys.executable, "-c", DEPLOYED], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert any("supernode" in command for command in processes_of(folder))
        process.kill()
    assert gone(folder, 20)


@pytest.mark.slow
def test_deployment_killed_with_its_keeper_leaves_no_key_and_is_removed_by_the_next() -> None:
    with subprocess.Popen([sys.executable, "-c", DEPLOYED], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert folder not in remove_abandoned()
        keepers = [
            int(found.name)
            for found in Path("/proc").glob("[0-9]*")
            if f"fedrobust.deploy.keeper\0{folder}" in read(found / "cmdline")
        ]
        for pid in [*keepers, process.pid]:
            os.kill(pid, signal.SIGKILL)
    assert len(keepers) == 1 and folder.exists()
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert files and not any(b"PRIVATE KEY" in file.read_bytes() for file in files)
    assert folder in [found.resolve() for found in remove_abandoned()]
    assert gone(folder, 5)


def read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def test_folders_in_use_links_and_other_folders_are_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    keeper = Keeper()
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "owner").write_text("mine")
    (tmp_path / f"{PREFIX}link").symlink_to(precious)
    (tmp_path / f"{PREFIX}file").write_text("")
    (tmp_path / f"{PREFIX}without-owner").mkdir()
    inner = tmp_path / f"{PREFIX}inner-link"
    inner.mkdir()
    (inner / "owner").symlink_to(precious / "owner")
    assert remove_abandoned() == []
    assert (precious / "owner").exists() and keeper.folder.exists()
    keeper.close()
    assert not keeper.folder.exists()
    left = tmp_path / f"{PREFIX}left"
    left.mkdir()
    (left / "owner").write_text("")
    assert remove_abandoned() == [left] and not left.exists()


def answer(guard: Guard, scope: dict[str, Any]) -> int:
    """Return the status of a guard's refusal; 200 if the request passed."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        raise AssertionError("the content was read")

    asyncio.run(guard({"type": "http", "headers": [], **scope}, receive, send))
    return int(sent[0]["status"])


async def passed(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200})


@pytest.mark.parametrize(
    ("path", "lengths", "status"),
    [
        ("/v1/fleet/push-object", [b"10"], 200),
        ("/v1/fleet/push-object", [str(LARGEST_REQUEST).encode()], 200),
        ("/v1/fleet/push-object", [str(LARGEST_REQUEST + 1).encode()], 413),
        ("/v1/fleet/push-object", [], 411),
        ("/v1/fleet/push-object", [b"-1"], 411),
        ("/v1/fleet/push-object", [b"1", b"2"], 411),
        ("/v1/fleet", [b"1"], 403),
        ("/v1/control/start-run", [b"1"], 403),
        ("/docs", [b"1"], 403),
        ("//v1/fleet/x", [b"1"], 403),
    ],
)
def test_guard_of_a_superlink(path: str, lengths: list[bytes], status: int) -> None:
    scope = {"path": path, "headers": [(b"content-length", length) for length in lengths]}
    # From another machine.
    ends = {"client": ("192.0.2.1", 40000), "server": ("192.0.2.2", 443)}
    assert answer(Guard(passed, fleet=True), {**scope, **ends}) == status
    # A SuperNode's server is for the hospital's own processes.
    assert answer(Guard(passed, fleet=False), {**scope, **ends}) == 403


def test_guard_knows_the_user_at_the_other_end() -> None:
    guard = Guard(passed, fleet=True)
    scope = {"path": "/v1/control/start-run"}
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family) as server:
            server.bind((host, 0))
            server.listen()
            with socket.create_connection(server.getsockname()[:2]) as client:
                ends = {"client": client.getsockname(), "server": server.getsockname()}
                assert answer(guard, {**scope, **ends}) == 200
                # A connection under way to its end may belong to anybody.
                client.shutdown(socket.SHUT_WR)
                assert answer(guard, {**scope, **ends}) == 403
    assert answer(guard, {**scope, "client": None, "server": None}) == 403


@pytest.mark.parametrize("mapped", [False, True])
def test_guard_of_a_server_for_both_kinds_of_addresses(mapped: bool) -> None:
    family, host = (socket.AF_INET6, "::ffff:127.0.0.1") if mapped else (socket.AF_INET, "127.0.0.1")
    with (
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server,
        socket.socket(family) as client,
    ):
        client.connect((host, server.getsockname()[1]))
        accepted, address = server.accept()
        with accepted:
            ends = {"client": address[:2], "server": accepted.getsockname()[:2]}
            assert address[0] == "::ffff:127.0.0.1"
            assert answer(Guard(passed, fleet=True), {"path": "/v1/control/x", **ends}) == 200


def test_signature_counts_once() -> None:
    clock = iter([0.0, 1.0, SIGNATURE_S, SIGNATURE_S, SIGNATURE_S + 1])
    rules = FleetRules(lambda: next(clock))
    rules.signed("a")
    for _ in range(2):
        with pytest.raises(PermissionError, match="used before"):
            rules.signed("a")
    rules.signed("b")
    # Flower itself refuses the first by then.
    rules.signed("c")
    assert set(rules._signatures) == {"b", "c"}


def test_reply_is_as_long_as_what_was_sent_allows() -> None:
    rules = FleetRules()
    with pytest.raises(PermissionError, match="longer than"):
        rules.pushing(7, 1)
    for _ in range(3):  # The same object thrice is one.
        rules.pulled(7, "model", 1000)
    rules.pulled(7, "metrics", 24)
    rules.replying(7, [7])
    rules.pushing(7, 2048)
    rules.pushing(7, REPLY_ALLOWANCE)
    with pytest.raises(PermissionError, match="reply of SuperNode 7"):
        rules.pushing(7, 1)
    with pytest.raises(PermissionError, match="in the name of SuperNode 8"):
        rules.replying(7, [8])
    # What it was sent counts for one reply.
    rules.replying(7, [7])
    with pytest.raises(PermissionError, match="longer than"):
        rules.pushing(7, REPLY_ALLOWANCE + 1)

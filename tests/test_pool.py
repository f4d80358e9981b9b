"""The pool of workers: the same bits as one process, and a dead worker costs one hospital one round."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pool_apps
import pytest
from federations import tiny
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp

from fedrobust import run
from fedrobust.engines.pool import PoolGrid
from fedrobust.engines.shared_folder import SharedFolder

NAMES = ("rounds.jsonl", "verdicts.jsonl", "client_metrics.jsonl", "evaluation.json", "model.safetensors")


@pytest.mark.parametrize(
    "changes", [{}, {"backbone": "shufflenet_v2_x0_5", "head": "linear", "malicious": 1}]
)
def test_workers_do_not_change_a_bit(tmp_path: Path, changes: dict[str, object]) -> None:
    alone = run(tiny(tmp_path / "1", **changes))
    for workers in (2, 4) if not changes else (2,):
        pooled = run(tiny(tmp_path / str(workers), **changes, workers=workers))
        for name in NAMES:
            assert (alone.folder / name).read_bytes() == (pooled.folder / name).read_bytes()


def test_a_hospital_that_kills_its_worker_loses_its_round_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients" / "killer.py").write_text(
        "import os, signal\nfrom fedrobust.federation import Attack\n\nclass Killer(Attack):\n"
        "    def poison_update(self, update):\n        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    result = run(tiny(tmp_path, malicious=1, attack="killer", workers=2))
    for line in result.rounds:
        assert [(f["hospital"], f["reason"]) for f in line["faults"]] == [
            (result.malicious[0], "its worker process died")
        ]
    assert len(result.summary["detection"]["weights"]) == 3


def test_a_hospital_that_hangs_loses_its_round_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients" / "sleeper_in_class.py").write_text(
        "import time\nfrom fedrobust.federation import Attack\n\nclass Asleep(Attack):\n"
        "    def poison_update(self, update):\n        time.sleep(1000)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = tiny(tmp_path, malicious=1, attack="sleeper-in-class", rounds=1, workers=2, client_timeout=6)
    result = run(settings)
    for line in result.rounds:
        assert [(f["hospital"], f["reason"]) for f in line["faults"]] == [
            (result.malicious[0], "no answer within 6 s")
        ]
    assert len(result.summary["detection"]["weights"]) == 3
    assert not multiprocessing.active_children()


def alive(group: int) -> list[str]:
    """Return the processes of a group, those that have ended but were not collected left out."""
    listing = subprocess.run(
        ["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 2) for line in listing.splitlines()]
    return [row[2] for row in rows if row[0] == str(group) and not row[1].startswith("Z")]


def test_interrupt_leaves_no_process_and_keeps_completed_rounds(tmp_path: Path) -> None:
    # What a shell starts in the background ignores Ctrl-C.
    script = (
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from fedrobust import Settings, run\nrun(Settings(clients=4, rounds=5000, patience=5000, "
        f"networks=1, workers=2, data='phantom(images=240, size=16)', out={str(tmp_path)!r}))"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", script], stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*.partial/rounds.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.2)
    os.killpg(started.pid, signal.SIGINT)
    asked = time.monotonic()
    started.wait(timeout=20)
    assert time.monotonic() - asked < 10
    (rounds,) = tmp_path.glob("*.partial/rounds.jsonl")
    assert rounds.read_text().endswith("}\n")
    deadline = time.monotonic() + 5
    while alive(started.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert alive(started.pid) == []


def test_a_script_without_a_main_guard_runs(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            from fedrobust import Settings, run
            print("begins")
            result = run(Settings(clients=2, rounds=1, local_epochs=1, networks=1, workers=2,
                                  data="phantom(images=120, size=16)", out={str(tmp_path)!r}))
            print("ends", result.summary["rounds"])
            """
        )
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == ["begins", "ends", "1"]


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Callable[..., PoolGrid]]:
    started: list[PoolGrid] = []

    def start(
        make_app: Callable[[], ClientApp], hospitals: int = 6, workers: int = 2, **more: Any
    ) -> PoolGrid:
        folder = SharedFolder(0, inside=tmp_path)
        started.append(PoolGrid(make_app(), make_app, hospitals, workers, folder, **more))
        return started[-1]

    yield start
    for grid in started:
        grid.close()


def exchange(grid: PoolGrid, values: np.ndarray, hospitals: int = 6) -> dict[int, Message]:
    """Send every hospital the same array; return the replies by hospital."""
    content = RecordDict({"arrays": ArrayRecord([values]), "config": ConfigRecord({"lr": 0.1})})
    asked = [Message(content, node + 1, MessageType.TRAIN) for node in range(hospitals)]
    return {reply.metadata.src_node_id - 1: reply for reply in grid.send_and_receive(asked)}


def numbers(reply: Message) -> np.ndarray:
    values: np.ndarray = reply.content["arrays"]["0"].numpy()
    return values


def test_each_hospital_gets_its_own_answer(pool: Callable[..., PoolGrid]) -> None:
    grid = pool(pool_apps.adds_its_number, hospitals=20)
    values = np.random.default_rng(0).standard_normal(3000).astype(np.float32)
    for _ in range(3):
        replies = exchange(grid, values, hospitals=20)
        assert sorted(replies) == list(range(20))
        for number, reply in replies.items():
            np.testing.assert_array_equal(numbers(reply), values + np.float32(number))


def test_replies_that_are_kept_stay_as_they_are(pool: Callable[..., PoolGrid]) -> None:
    grid = pool(pool_apps.adds_its_number)
    first = exchange(grid, np.zeros(5000, np.float32))
    for k in range(3):
        exchange(grid, np.full(5000, 100.0 + k, np.float32))
    for number, reply in first.items():
        assert (numbers(reply) == number).all()


def test_shared_memory_is_used_again(pool: Callable[..., PoolGrid]) -> None:
    grid = pool(pool_apps.adds_its_number)
    for _ in range(5):
        exchange(grid, np.zeros(5000, np.float32))
    assert grid._slots.used_bytes == 0
    assert len(list(grid._folder.path.glob("slots-*"))) == 1


def test_reference_cycles_do_not_fill_the_memory(pool: Callable[..., PoolGrid]) -> None:
    grid = pool(pool_apps.ties_cycles, hospitals=2)
    for _ in range(40):
        exchange(grid, np.zeros(1 << 20, np.float32), hospitals=2)
    assert grid._slots.used_bytes < 40 * (1 << 22)


def test_arrays_that_a_hospital_keeps_are_not_overwritten(pool: Callable[..., PoolGrid]) -> None:
    grid = pool(pool_apps.hoards, workers=1)
    for value in (1.0, 2.0, 3.0):
        replies = exchange(grid, np.full(2000, value, np.float32))
        assert all(reply.content["metrics"]["oldest"] == 1.0 for reply in replies.values())
        assert all((numbers(reply) == value + 1).all() for reply in replies.values())


def test_state_of_a_node_follows_it_to_any_worker(pool: Callable[..., PoolGrid]) -> None:
    grid = pool(pool_apps.counts_its_rounds)
    for number in (1, 2, 3):
        replies = exchange(grid, np.zeros(2, np.float32))
        assert [reply.content["metrics"]["rounds"] for reply in replies.values()] == [number] * 6


def test_an_answer_of_another_shape_arrives(pool: Callable[..., PoolGrid]) -> None:
    replies = exchange(pool(pool_apps.sends_another_shape), np.zeros(10, np.float32))
    for reply in replies.values():
        np.testing.assert_array_equal(numbers(reply), np.arange(100_000))


def test_large_messages_pass_without_shared_memory(
    pool: Callable[..., PoolGrid], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(size: int) -> None:
        raise OSError("no space left")

    grid = pool(pool_apps.adds_its_number, hospitals=8)
    monkeypatch.setattr(grid._slots, "take", no_room)
    values = np.random.default_rng(0).standard_normal(200_000)
    for number, reply in exchange(grid, values, hospitals=8).items():
        np.testing.assert_array_equal(numbers(reply), values + number)


def test_failing_hospital_fails_alone(pool: Callable[..., PoolGrid]) -> None:
    grid = pool(pool_apps.troubled, hospitals=8, limit_s=2.0)
    for _ in range(2):
        replies = exchange(grid, np.ones(10, np.float32), hospitals=8)
        reasons = {number: reply.error.reason for number, reply in replies.items() if reply.has_error()}
        assert sorted(replies) == list(range(8))
        assert reasons[1] == "its worker process died"
        assert reasons[2].rstrip().endswith("RuntimeError: no patient today")
        assert reasons[3] == "no answer within 2 s"
        assert len(reasons) == 3


def test_a_worker_killed_at_rest_is_replaced(pool: Callable[..., PoolGrid]) -> None:
    grid = pool(pool_apps.adds_its_number)
    for _ in range(2):
        assert not any(reply.has_error() for reply in exchange(grid, np.ones(10, np.float32)).values())
        os.kill(grid._workers[0].process.pid, signal.SIGKILL)
        grid._workers[0].process.join()


def test_nothing_is_left_in_shared_memory(pool: Callable[..., PoolGrid]) -> None:
    grid = pool(pool_apps.adds_its_number)
    replies = exchange(grid, np.ones(1000, np.float32))
    grid.close()
    assert not grid._folder.path.exists()
    assert (numbers(replies[3]) == 4).all()

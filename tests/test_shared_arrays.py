"""Arrays in shared memory: equal after transport, and only their places in the pickled message."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from fedrobust.engines.shared_arrays import SharedArray, WorkerMemory, broadcast, dumps, loads, outgoing
from fedrobust.engines.slots import Slots


@pytest.fixture
def content() -> RecordDict:
    arrays = {"a": Array(np.arange(50_000, dtype=np.float32)), "b": Array(np.ones((2, 3), np.int64))}
    arrays["empty"] = Array(np.zeros(0, np.float32))
    return RecordDict({"arrays": ArrayRecord(arrays), "config": ConfigRecord({"lr": 0.5})})


def test_shared_array_is_pickled_as_its_place(content: RecordDict, tmp_path: Path) -> None:
    light = broadcast(content, Slots(tmp_path), {})
    sent = dumps(light)
    assert len(sent) < 3000
    back = loads(sent, WorkerMemory().view)
    assert back["config"] == content["config"]
    for name, array in content["arrays"].items():
        got = back["arrays"][name]
        assert isinstance(got, Array)
        np.testing.assert_array_equal(got.numpy(), array.numpy())
        assert (got.dtype, tuple(got.shape), got.stype) == (array.dtype, tuple(array.shape), array.stype)
        assert got.data == array.data
    assert not isinstance(content["arrays"]["a"], SharedArray)


def test_a_record_is_written_once(content: RecordDict, tmp_path: Path) -> None:
    slots, known = Slots(tmp_path), {}
    first, second = (broadcast(content, slots, known) for _ in range(2))
    assert first["arrays"] is second["arrays"]
    assert slots.used_bytes < 2 * 50_000 * 4


def test_worker_cannot_change_shared_arrays(content: RecordDict, tmp_path: Path) -> None:
    received = loads(dumps(broadcast(content, Slots(tmp_path), {})), WorkerMemory().view)
    with pytest.raises(ValueError, match="read-only"):
        received["arrays"]["a"].numpy()[0] = 9


def test_worker_lists_the_slots_in_use(content: RecordDict, tmp_path: Path) -> None:
    memory = WorkerMemory()
    received = loads(dumps(broadcast(content, Slots(tmp_path), {})), memory.view)
    kept = received["arrays"]["a"].numpy()[:5]
    place = received["arrays"]["a"].__dict__["place"]
    del received
    assert memory.kept() == {place}
    del kept
    assert memory.kept() == set()


def test_a_reply_comes_back_in_its_reserved_slots(content: RecordDict, tmp_path: Path) -> None:
    slots = Slots(tmp_path)
    reserved = [
        slots.take(array.numpy().nbytes) for array in content["arrays"].values() if array.numpy().size
    ]
    light, used = outgoing(content, reserved)
    assert sorted(used) == sorted(reserved)
    back = loads(dumps(light), slots.view)
    for name, array in content["arrays"].items():
        np.testing.assert_array_equal(back["arrays"][name].numpy(), array.numpy())
    before = slots.used_bytes
    del back
    assert slots.used_bytes < before


def test_a_reply_of_another_size_travels_in_the_message(tmp_path: Path) -> None:
    slots = Slots(tmp_path)
    large = RecordDict({"arrays": ArrayRecord([np.arange(9000.0)])})
    light, used = outgoing(large, [slots.take(100)])
    assert used == []
    np.testing.assert_array_equal(loads(dumps(light), slots.view)["arrays"]["0"].numpy(), np.arange(9000.0))


def test_without_room_the_numbers_travel_in_the_message(content: RecordDict, tmp_path: Path) -> None:
    light = broadcast(content, Slots(tmp_path / "nowhere"), {})
    back = loads(dumps(light), WorkerMemory().view)
    np.testing.assert_array_equal(back["arrays"]["a"].numpy(), content["arrays"]["a"].numpy())


def test_received_array_is_not_returned_under_its_place(content: RecordDict, tmp_path: Path) -> None:
    slots = Slots(tmp_path)
    received = loads(dumps(broadcast(content, slots, {})), WorkerMemory().view)
    light, used = outgoing(received, [])
    assert used == []
    assert not any(isinstance(array, SharedArray) for array in light["arrays"].values())
    back = loads(dumps(light), slots.view)
    np.testing.assert_array_equal(back["arrays"]["a"].numpy(), np.arange(50_000, dtype=np.float32))

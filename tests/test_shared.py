"""Arrays in shared files: the same type and numbers, no bytes in the message, no file left behind."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MessageType, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from fedrobust.engines.shared import SharedArray, discard, shared


@pytest.fixture
def message() -> Message:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 0
    arrays = {"a": Array(np.arange(50_000, dtype=np.float32)), "b": Array(np.ones((2, 3), np.int64))}
    arrays["empty"] = Array(np.zeros(0, np.float32))
    return Message(RecordDict({"arrays": ArrayRecord(arrays)}), 3, MessageType.TRAIN)


def test_it_travels_as_a_name(message: Message, tmp_path: Path) -> None:
    light = shared(message, tmp_path)
    sent = pickle.dumps(light)
    assert len(sent) < 3000 < len(pickle.dumps(message))
    back = pickle.loads(sent)
    for name, array in message.content["arrays"].items():
        got = back.content["arrays"][name]
        assert isinstance(got, Array)
        np.testing.assert_array_equal(got.numpy(), array.numpy())
        assert (got.dtype, tuple(got.shape), got.stype) == (array.dtype, tuple(array.shape), array.stype)
        assert got.data == array.data
    assert back.metadata.dst_node_id == 3
    assert not isinstance(message.content["arrays"]["a"], SharedArray)


def test_a_record_is_written_once(message: Message, tmp_path: Path) -> None:
    known: dict[int, ArrayRecord] = {}
    first, second = (shared(message, tmp_path, known) for _ in range(2))
    assert first.content["arrays"] is second.content["arrays"]
    assert len(list(tmp_path.iterdir())) == 2


def test_who_changes_the_numbers_changes_a_private_copy(message: Message, tmp_path: Path) -> None:
    light = shared(message, tmp_path)
    other = pickle.loads(pickle.dumps(light))
    light.content["arrays"]["a"].numpy()[0] = 99
    assert other.content["arrays"]["a"].numpy()[0] == 0


def test_nothing_is_left_and_views_outlive_the_file(message: Message, tmp_path: Path) -> None:
    light = shared(message, tmp_path)
    discard(light)
    discard(light)
    assert list(tmp_path.iterdir()) == []
    assert light.content["arrays"]["a"].numpy()[-1] == 49_999


def test_without_room_the_message_goes_as_it_is(message: Message, tmp_path: Path) -> None:
    assert shared(message, tmp_path / "nowhere") is message

"""The engine in this process: errors stay with their hospital, pushed messages wait to be pulled."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from federations import fake_app
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict

from fedrobust.engines.local import LocalGrid


def messages(grid: LocalGrid) -> list[Message]:
    arrays = ArrayRecord({"parameters": Array(np.ones(2, np.float32))})
    content = RecordDict({"arrays": arrays, "config": ConfigRecord({"lr": 0.1})})
    return [Message(content, dst_node_id=n, message_type=MessageType.TRAIN) for n in grid.get_node_ids()]


def test_each_node_knows_its_partition_and_replies_are_counted() -> None:
    counted: list[int] = []
    grid = LocalGrid(fake_app(lambda a, number: (a, {"loss": float(number)})), 3, lambda: counted.append(1))
    replies = list(grid.send_and_receive(messages(grid)))
    assert [r.content["metrics"]["loss"] for r in replies] == [0.0, 1.0, 2.0]
    assert [r.metadata.src_node_id for r in replies] == [1, 2, 3]
    assert len(counted) == 3


def test_a_hospital_that_raises_is_an_error_reply() -> None:
    def behaviour(arrays: Any, number: int) -> Any:
        if number == 1:
            raise ValueError("no images today")
        return arrays, {}

    grid = LocalGrid(fake_app(behaviour), 3)
    replies = list(grid.send_and_receive(messages(grid)))
    assert [r.has_error() for r in replies] == [False, True, False]
    assert "no images today" in (replies[1].error.reason or "")


def test_a_hospital_that_hangs_loses_its_round_alone() -> None:
    def behaviour(arrays: Any, number: int) -> Any:
        if number == 1:
            time.sleep(60)
        return arrays, {}

    grid = LocalGrid(fake_app(behaviour), 3, limit_s=0.3)
    replies = list(grid.send_and_receive(messages(grid)))
    assert [r.has_error() for r in replies] == [False, True, False]
    assert replies[1].error.reason == "no answer within 0.3 s"


def test_push_and_pull() -> None:
    grid = LocalGrid(fake_app(lambda a, number: (a, {"loss": float(number)})), 2)
    first, second = grid.push_messages(messages(grid))
    assert [r.content["metrics"]["loss"] for r in grid.pull_messages([second, first])] == [1.0, 0.0]

"""The client grid: order, and faults that cost a hospital its round."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from federations import Unordered, fake_app
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict

from fedrobust.engines.local import LocalGrid
from fedrobust.errors import UserError
from fedrobust.flower.client_grid import ClientGrid

START = {"parameters": np.ones(4, np.float32), "buffers": np.zeros(2, np.float32)}


def exchange(client_grid: ClientGrid) -> list[Message]:
    """Discover the hospitals and send each a training message."""
    arrays = ArrayRecord({name: Array(value) for name, value in START.items()})
    client_grid.discover()
    client_grid.set_expected_shapes(arrays)
    content = RecordDict({"arrays": arrays, "config": ConfigRecord({"lr": 0.1})})
    sent = [
        Message(content, dst_node_id=n, message_type=MessageType.TRAIN) for n in client_grid.get_node_ids()
    ]
    return list(client_grid.send_and_receive(sent))


def test_replies_come_in_the_order_of_hospitals_whatever_the_grid_does() -> None:
    app = fake_app(lambda arrays, number: (arrays, {"loss": float(number)}))
    client_grid = ClientGrid(Unordered(app, 5), 5)
    replies = exchange(client_grid)
    assert [client_grid.hospital_of(reply) for reply in replies] == [0, 1, 2, 3, 4]
    assert [client_grid.hospital_of(Reply) for Reply in replies] == [
        r.content["metrics"]["loss"] for r in replies
    ]
    assert client_grid.faults == []


def test_nodes_beyond_the_hospitals_get_no_messages() -> None:
    app = fake_app(lambda arrays, number: (arrays, {}))
    client_grid = ClientGrid(LocalGrid(app, 6), 4)
    assert len(exchange(client_grid)) == 4


def test_hospitals_with_data_of_their_own_are_known() -> None:
    app = fake_app(
        lambda arrays, number: (arrays, {}),
        says=lambda number: {"partition-id": number, **({"own-data": True} if number == 2 else {})},
    )
    client_grid = ClientGrid(LocalGrid(app, 4), 4)
    client_grid.discover()
    assert client_grid.own_data == {2}


def test_two_nodes_of_one_hospital_are_refused() -> None:
    app = fake_app(lambda arrays, number: (arrays, {}), says=lambda number: {"partition-id": number // 2})
    with pytest.raises(UserError, match="two nodes claim to be hospital 0, node 1 and node 2"):
        ClientGrid(LocalGrid(app, 4), 4).discover()


def test_a_missing_hospital_is_named() -> None:
    app = fake_app(lambda arrays, number: (arrays, {}))
    with pytest.raises(UserError, match="3 of 5 hospitals are connected, hospital 3 is not"):
        ClientGrid(LocalGrid(app, 3), 5, wait_s=0).discover()


def _with(name: str, value: Any) -> Any:
    return {**START, name: value}


@pytest.mark.parametrize(
    ("arrays", "metrics", "words"),
    [
        (_with("parameters", np.array([1, np.nan, 1, 1], np.float32)), {}, "NaN"),
        (_with("buffers", np.array([np.inf, 0], np.float32)), {}, "infinite"),
        (_with("parameters", np.ones(5, np.float32)), {}, "wrong names or shapes"),
        ({"parameters": np.ones(4, np.float32)}, {}, "wrong names or shapes"),
        (_with("parameters", np.full(4, 1e20, np.float32)), {}, "absurdly large"),
        (START, {"extra": 1.0}, "other names or lengths"),
        (START, {"loss": [1.0, 2.0]}, "other names or lengths"),
        (START, {"num-examples": 0}, "num-examples"),
        (START, {"num-examples": -5}, "num-examples"),
        (START, {"num-examples": float("nan")}, "num-examples"),
    ],
)
def test_a_faulty_reply_becomes_a_named_error(arrays: Any, metrics: dict[str, Any], words: str) -> None:
    client_grid = ClientGrid(
        LocalGrid(fake_app(lambda a, number: (arrays, metrics) if number == 2 else (a, {})), 4), 4
    )
    replies = exchange(client_grid)
    assert [reply.has_error() for reply in replies] == [False, False, True, False]
    assert [fault.client for fault in client_grid.faults] == [2]
    assert words in client_grid.faults[0].reason


def test_crash_is_reported_by_its_last_line() -> None:
    def behaviour(arrays: Any, number: int) -> Any:
        if number == 1:
            raise RuntimeError("the scanner is on fire")
        return arrays, {}

    client_grid = ClientGrid(LocalGrid(fake_app(behaviour), 3), 3)
    replies = exchange(client_grid)
    assert [reply.has_error() for reply in replies] == [False, True, False]
    assert client_grid.faults[0].client == 1
    assert "the scanner is on fire" in client_grid.faults[0].reason


def test_a_hospital_that_does_not_answer_is_named() -> None:
    class Deaf(LocalGrid):
        def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> Any:
            replies = list(super().send_and_receive(messages, timeout=timeout))
            return [r for r in replies if r.metadata.message_type != "train" or r.metadata.src_node_id != 1]

    client_grid = ClientGrid(Deaf(fake_app(lambda a, number: (a, {})), 3), 3)
    assert len(exchange(client_grid)) == 2
    assert (client_grid.faults[0].client, client_grid.faults[0].reason) == (0, "no reply in time")


def test_number_of_another_hospital_is_refused() -> None:
    asked: list[int] = []

    def says(number: int) -> dict[str, Any]:
        asked.append(number)
        return {"partition-id": 0 if len(asked) > 3 else number}

    client_grid = ClientGrid(LocalGrid(fake_app(lambda a, number: (a, {}), says=says), 3), 3)
    replies = exchange(client_grid)
    assert [reply.has_error() for reply in replies] == [False, True, True]
    assert "claims to be hospital 0" in client_grid.faults[0].reason


def test_a_key_of_the_train_config_that_no_hospital_reads_is_named_once() -> None:
    client_grid = ClientGrid(LocalGrid(fake_app(lambda a, number: (a, {})), 2), 2)
    client_grid.discover()
    arrays = ArrayRecord({name: Array(value) for name, value in START.items()})
    config = ConfigRecord({"server-round": 1, "lr": 0.1, "proximal-mu": 0.5, "momentum": 0.9})
    content = RecordDict({"arrays": arrays, "config": config})
    asked = [Message(content, node, MessageType.TRAIN) for node in (1, 2)]
    with pytest.warns(UserWarning, match="sends 'momentum' to the hospitals, but no hospital reads it"):
        client_grid.send_and_receive(asked)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client_grid.send_and_receive(asked)


def test_two_messages_to_one_hospital_are_refused() -> None:
    client_grid = ClientGrid(LocalGrid(fake_app(lambda a, number: (a, {})), 2), 2)
    client_grid.discover()
    with pytest.raises(UserError, match="sends a hospital several messages at once"):
        client_grid.send_and_receive([Message(RecordDict(), 1, MessageType.TRAIN) for _ in range(2)])


@pytest.mark.parametrize("said", [{}, {"partition-id": "one"}])
def test_node_without_a_number_is_named(said: dict[str, Any]) -> None:
    app = fake_app(lambda a, number: (a, {}), says=lambda number: said)
    with pytest.raises(UserError, match="node 1 does not say which hospital it is"):
        ClientGrid(LocalGrid(app, 2), 2).discover()


@pytest.mark.parametrize(
    ("model", "sent", "seen"),
    [("f8", "f4", "float32"), ("f4", "f8", "float32"), ("f4", "i8", "float32"), ("f4", ">f4", "float32")],
)
def test_replies_of_unusual_types_reach_the_strategy_in_the_models(model: str, sent: str, seen: str) -> None:
    """Float32 stays as it is, also where a strategy has made float64 of the model: its bits depend on it."""
    client_grid = ClientGrid(
        LocalGrid(fake_app(lambda a, number: ({n: v.astype(sent) for n, v in a.items()}, {})), 2), 2
    )
    client_grid.discover()
    arrays = ArrayRecord({name: Array(value.astype(model)) for name, value in START.items()})
    content = RecordDict({"arrays": arrays, "config": ConfigRecord({"lr": 0.1})})
    replies = client_grid.send_and_receive([Message(content, n, MessageType.TRAIN) for n in (1, 2)])
    received = [array for reply in replies for array in reply.content["arrays"].values()]
    assert {array.dtype for array in received} == {seen}
    # Some of Flower's strategies compute in place.
    assert all(array.numpy().flags.writeable for array in received)


def test_node_that_cannot_start_is_left_out() -> None:
    def says(number: int) -> dict[str, Any]:
        if number == 2:
            raise RuntimeError("no scanner")
        return {"partition-id": number}

    client_grid = ClientGrid(LocalGrid(fake_app(lambda a, number: (a, {}), says=says), 3), 2)
    with pytest.warns(UserWarning, match="node 3 does not start: RuntimeError: no scanner; it takes no part"):
        assert len(exchange(client_grid)) == 2

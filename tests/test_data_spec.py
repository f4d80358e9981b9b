"""What a deployment's grid adds to messages, and replies that the SuperLink makes for a node that is gone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import pytest
from federations import tiny
from flwr.app import ConfigRecord, Error, Message, MessageType, Metadata, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from fedrobust.engines.local import LocalGrid
from fedrobust.flower.client_app import make_client_app
from fedrobust.flower.codec import DATA_SPEC
from fedrobust.flower.data_spec import DataSpecGrid
from fedrobust.runtime.server import Server
from fedrobust.scenario import Scenario


class OneNodeGone(LocalGrid):
    """A grid like Flower's HTTP grid: it gives messages ids, and replies as node 1 for a missing node."""

    seen: list[RecordDict]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Answer with an error in the place of hospital 2's training."""
        asked = list(messages)
        self.seen = [message.content for message in asked]
        replies = []
        for place, message in enumerate(asked):
            message.metadata.__dict__["_message_id"] = f"message {place}"
            if message.metadata.message_type == MessageType.TRAIN and message.metadata.dst_node_id == 3:
                replies.append(_from_superlink(message))
            else:
                replies += super().send_and_receive([message], timeout=timeout)
        return replies


def _from_superlink(message: Message) -> Message:
    asked = message.metadata
    about = Metadata(1, "reply", 1, asked.src_node_id, asked.message_id, "", 0.0, 60.0, asked.message_type)
    return cast(Message, cast(Any, Message)(error=Error(3, "node is gone"), metadata=about))


@pytest.fixture(autouse=True)
def _identity() -> None:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 0


def test_a_node_that_is_gone_costs_its_hospital_the_round_only(tmp_path: Path) -> None:
    settings = tiny(tmp_path)
    grid = OneNodeGone(make_client_app(Scenario.of(settings)), settings.clients)
    result = Server(Scenario.of(settings)).run(DataSpecGrid(grid, Scenario.of(settings).data))
    assert result.summary["rounds"] == 2
    for line in result.rounds:
        assert line["faults"] == [{"hospital": 2, "reason": "node is gone"}]


def test_train_messages_hold_the_data_spec(tmp_path: Path) -> None:
    settings = tiny(tmp_path)
    grid = OneNodeGone(make_client_app(Scenario.of(settings)), settings.clients)
    specified = DataSpecGrid(grid, Scenario.of(settings).data)
    content = RecordDict({"config": ConfigRecord({"lr": 0.1})})
    specified.send_and_receive([Message(content, 3, MessageType.TRAIN)])
    assert list(grid.seen[0][DATA_SPEC]["shape"]) == [1, 16, 16]
    assert grid.seen[0][DATA_SPEC]["classes"][0] == "no finding"
    assert grid.seen[0]["config"] == content["config"] and set(content) == {"config"}
    specified.send_and_receive([Message(RecordDict(), 3, MessageType.QUERY)])
    assert DATA_SPEC not in grid.seen[0]
    assert specified.get_node_ids() == grid.get_node_ids()

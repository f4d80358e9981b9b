"""A Grid around a Grid passes everything on."""

from __future__ import annotations

import numpy as np
from federations import fake_app
from flwr.app import Array, ArrayRecord, Message, MessageType, RecordDict

from fedrobust.engines.local import LocalGrid
from fedrobust.flower.grid import WrappedGrid


def test_wrapped_grid_does_all_that_the_inner_grid_does() -> None:
    inner = LocalGrid(fake_app(lambda arrays, number: (arrays, {})), 3)
    outer = WrappedGrid(WrappedGrid(inner))
    assert outer.innermost is inner and outer.run is None
    assert list(outer.get_node_ids()) == [1, 2, 3]
    content = RecordDict({"arrays": ArrayRecord({"w": Array(np.ones(3))})})
    asked = outer.create_message(content, MessageType.TRAIN, 2, "1")
    (reply,) = outer.send_and_receive([asked])
    assert reply.metadata.src_node_id == 2
    assert outer.busy_s == inner.busy_s > 0
    (pulled,) = outer.pull_messages(outer.push_messages([Message(content, 3, MessageType.TRAIN)]))
    assert pulled.metadata.src_node_id == 3

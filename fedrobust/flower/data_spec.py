"""A Grid for deployments that adds the federation's classes and image shape to messages."""

from __future__ import annotations

from collections.abc import Iterable

from flwr.app import Message, MessageType
from flwr.serverapp import Grid

from fedrobust.data.sources import prepare
from fedrobust.data.spec import DataSpec
from fedrobust.flower.codec import DATA_SPEC, DataSpecRecord, with_record
from fedrobust.flower.compat import set_message_id
from fedrobust.flower.grid import WrappedGrid

__all__ = ["DataSpecGrid"]


class DataSpecGrid(WrappedGrid):
    """Adds the classes and the image shape to each message to train or evaluate.

    A hospital with data of its own compares them with its own, and need not hold the server's data.

    Parameters
    ----------
    grid : Grid
        Of a real deployment, where each node is one hospital.
    data : DataSpec
        The federation's.
    """

    def __init__(self, grid: Grid, data: DataSpec) -> None:
        """Wrap the grid; the data are loaded with the first message."""
        super().__init__(grid)
        self._data = data

    def _with_spec(self, message: Message) -> Message:
        data = message.metadata
        if data.message_type not in (MessageType.TRAIN, MessageType.EVALUATE):
            return message
        records = prepare(self._data).records
        spec = DataSpecRecord(tuple(records.classes), tuple(records.images.shape[1:]))
        content = with_record(message.content, DATA_SPEC, spec.record())
        return Message(content, data.dst_node_id, data.message_type, ttl=data.ttl, group_id=data.group_id)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Exchange messages as the wrapped grid does, each with the data spec."""
        asked = list(messages)
        specified = [self._with_spec(message) for message in asked]
        replies = list(self.inner.send_and_receive(specified, timeout=timeout))
        # The ids that the grid gave tell the caller which reply belongs to which message.
        for message, sent in zip(asked, specified, strict=True):
            set_message_id(message, sent.metadata.message_id)
        return replies

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Push messages as the wrapped grid does, each with the data spec."""
        return self.inner.push_messages([self._with_spec(m) for m in messages])

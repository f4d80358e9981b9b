"""A Grid for deployments whose server knows which hospital each SuperNode's key belongs to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from flwr.app import Message, MessageType
from flwr.serverapp import Grid

from fedrobust.errors import UserError
from fedrobust.flower.codec import hospital_record
from fedrobust.flower.compat import error_reply
from fedrobust.flower.grid import WrappedGrid

__all__ = ["REGISTERED_NODES", "RegisteredGrid", "registered_nodes"]

#: The environment variable that names a JSON file: each registered node's id to its hospital's number.
REGISTERED_NODES = "FEDROBUST_REGISTERED_NODES"

_ERROR_OTHER_NUMBER = 1001


def registered_nodes() -> dict[int, int] | None:
    """Return the hospital of each registered node; None where the server names none.

    Raises
    ------
    UserError
        If the file cannot be read or holds anything else.
    """
    named = os.environ.get(REGISTERED_NODES)
    if not named:
        return None
    try:
        read = json.loads(Path(named).read_text(encoding="utf-8"))
        return {int(node): int(number) for node, number in read.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        raise UserError(
            f'{REGISTERED_NODES}: {named} is not a JSON file such as {{"<node id>": 0}}; '
            f"`flwr supernode list` shows the ids"
        ) from None


class RegisteredGrid(WrappedGrid):
    """Lets a node be the hospital that its key is registered for, and no other.

    Parameters
    ----------
    grid : Grid
        Of a real deployment.
    nodes : mapping of int to int
        The hospital of each registered node.
    """

    def __init__(self, grid: Grid, nodes: Mapping[int, int]) -> None:
        """Wrap the grid."""
        super().__init__(grid)
        self._nodes = nodes

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Exchange messages; an answer in another hospital's name becomes an error that says so."""
        replies = self.inner.send_and_receive(messages, timeout=timeout)
        return [self._checked(reply) for reply in replies]

    def _checked(self, reply: Message) -> Message:
        if reply.metadata.message_type != MessageType.QUERY or reply.has_error():
            return reply
        claimed, known = hospital_record(reply).number, self._nodes.get(reply.metadata.src_node_id)
        if claimed is None or claimed == known:
            return reply
        holder = "no hospital" if known is None else f"hospital {known}"
        reason = f"it claims to be hospital {claimed}, but its key is registered for {holder}"
        return error_reply(reply, _ERROR_OTHER_NUMBER, reason)

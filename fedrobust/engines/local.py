"""The local engine: a Grid whose nodes live in this process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from fedrobust.engines.answering import answer
from fedrobust.flower.compat import identify_process

__all__ = ["LocalGrid"]


class LocalGrid(Grid):
    """Passes every message to the ClientApp at once, one hospital after another.

    Parameters
    ----------
    client_app : ClientApp
    hospitals : int
        Node ``i + 1`` is the hospital with partition id ``i``.
    on_reply : callable, optional
        Called without arguments after each reply to a training message, for progress.
    limit_s : float
        Seconds before a hospital is dropped from the round, as far as `time_limit` can interrupt it.

    Attributes
    ----------
    busy_s : float
        Seconds that the hospitals' own work took in the last exchange, of the busiest worker if there are
        several.
    """

    def __init__(
        self,
        client_app: ClientApp,
        hospitals: int,
        on_reply: Callable[[], None] | None = None,
        limit_s: float = math.inf,
    ) -> None:
        """Give each node a context of its own."""
        identify_process()
        self._client_app = client_app
        self._on_reply = on_reply
        self._limit_s = limit_s
        self.busy_s = 0.0
        self._answers: dict[str, Message] = {}
        self._contexts = {
            number + 1: Context(
                run_id=1,
                node_id=number + 1,
                node_config={"partition-id": number, "num-partitions": hospitals},
                state=RecordDict(),
                run_config={},
            )
            for number in range(hospitals)
        }

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes' ids."""
        return list(self._contexts)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Return the ClientApp's replies; one that raises becomes an error reply."""
        began = time.perf_counter()
        replies = [self._reply(message) for message in messages]
        self.busy_s = time.perf_counter() - began
        return replies

    def _reply(self, message: Message) -> Message:
        context = self._contexts[message.metadata.dst_node_id]
        reply = answer(self._client_app, message, context, self._limit_s)
        if self._on_reply is not None and message.metadata.message_type == "train":
            self._on_reply()
        return reply

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Answer the messages at once and keep the replies until they are pulled."""
        ids = []
        for message in messages:
            ids.append(f"message-{len(self._answers)}")
            self._answers[ids[-1]] = self._reply(message)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the kept replies."""
        return [self._answers[identifier] for identifier in message_ids]

    def set_run(self, run: Any) -> None:
        """Ignore the run: this grid serves one."""

    @property
    def run(self) -> Any:
        """Return None: there is no SuperLink that knows runs."""
        return None

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a new message."""
        return Message(content, dst_node_id, message_type, group_id=group_id, ttl=ttl)

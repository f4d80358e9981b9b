"""A Grid around a Grid, which passes everything on; its subclasses change what they are about."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid

__all__ = ["WrappedGrid"]


class WrappedGrid(Grid):
    """Does all that another Grid does.

    Parameters
    ----------
    grid : Grid
        Flower's, an engine's, or a wrapped one.

    Attributes
    ----------
    inner : Grid
        The given one.
    """

    def __init__(self, grid: Grid) -> None:
        """Keep the grid."""
        self.inner = grid

    @property
    def innermost(self) -> Grid:
        """Return the grid that wraps no other."""
        return self.inner.innermost if isinstance(self.inner, WrappedGrid) else self.inner

    @property
    def busy_s(self) -> float:
        """Return the seconds of the hospitals' work in the last exchange; 0 where the inner grid has none."""
        return float(getattr(self.inner, "busy_s", 0.0))

    @property
    def side_by_side(self) -> int:
        """Return how many hospitals certainly train at the same time."""
        return int(getattr(self.inner, "side_by_side", 1))

    def get_node_ids(self) -> Iterable[int]:
        """Return the inner grid's nodes."""
        return self.inner.get_node_ids()

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Exchange messages as the inner grid does."""
        return self.inner.send_and_receive(messages, timeout=timeout)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Push messages as the inner grid does."""
        return self.inner.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Pull messages as the inner grid does."""
        return self.inner.pull_messages(message_ids)

    def set_run(self, run: Any) -> None:
        """Pass the run on."""
        self.inner.set_run(run)

    @property
    def run(self) -> Any:
        """Return the inner grid's run."""
        return self.inner.run

    def create_message(self, *args: Any, **options: Any) -> Message:
        """Create a message as the inner grid does."""
        return self.inner.create_message(*args, **options)

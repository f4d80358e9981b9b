"""Where memories between rounds lie: `MemoryStore`, and a node's own state as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

from flwr.app import ConfigRecord, RecordDict

from fedrobust.errors import UserError
from fedrobust.federation.memory import Memory, memories_of, pack_memories

__all__ = ["MemoryStore", "NodeMemory", "keep", "recall"]

_ROUND, _CONTENT = "round", "content"


class MemoryStore(Protocol):
    """Keeps bytes by their owner's name and by the round that they are the outcome of."""

    def read(self, owner: str, round: int) -> bytes:
        """Return what the owner kept last before a round; no bytes where there is nothing."""
        ...

    def write(self, owner: str, round: int, content: bytes) -> None:
        """Keep what a round gave; what the rounds before the last one gave may be forgotten."""
        ...


class NodeMemory:
    """The state that Flower keeps for a node during a run, in its SuperNode's memory.

    Parameters
    ----------
    state : RecordDict
        `Context.state`.
    shared : bool
        Several hospitals share the node, whose messages may overwrite each other's state.
    """

    def __init__(self, state: RecordDict, *, shared: bool = False) -> None:
        """Keep the state."""
        self._state, self._shared = state, shared

    def read(self, owner: str, round: int) -> bytes:
        """Return what the owner kept last before a round."""
        record = self._state.get(owner)
        if not isinstance(record, ConfigRecord) or cast(int, record[_ROUND]) >= round:
            return b""
        return cast(bytes, record[_CONTENT])

    def write(self, owner: str, round: int, content: bytes) -> None:
        """Keep what a round gave."""
        if self._shared:
            raise UserError(
                "it keeps something between rounds, which hospitals that share a node cannot; give Flower's "
                "simulation as many SuperNodes as there are hospitals (num-supernodes)"
            )
        self._state[owner] = ConfigRecord({_ROUND: round, _CONTENT: content})


def recall(store: MemoryStore, owner: str, round: int) -> dict[str, Memory]:
    """Return what an owner kept before a round."""
    return memories_of(store.read(owner, round))


def keep(store: MemoryStore, owner: str, round: int, memories: Mapping[str, Memory], limit: int) -> int:
    """Keep what an owner remembers after a round; return its bytes, 0 where it remembers nothing.

    Raises
    ------
    UserError
        If it is too long, or holds something that cannot be kept.
    """
    filled = {name: memory for name, memory in memories.items() if memory}
    # What was kept before must not come back.
    if not filled and not store.read(owner, round):
        return 0
    content = pack_memories(filled, limit)
    store.write(owner, round, content)
    return len(content) if filled else 0

"""The scheduler of cells over any executor: order, time limit, the second try and failures."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fedrobust.settings import Settings
from fedrobust.suites.progress import Watcher
from fedrobust.suites.store import note_failure

__all__ = ["Executor", "Outcome", "work_off"]


@dataclass(frozen=True)
class Outcome:
    """What became of a cell on an executor.

    Attributes
    ----------
    digest : str
        Hash of the cell's settings.
    error : str
        What went wrong; empty if the run is complete.
    lost : bool
        Whether the process or node that ran it was lost, so that a second try may succeed.
    """

    digest: str
    error: str
    lost: bool = False


class Executor(Protocol):
    """Runs cells, so many at once."""

    @property
    def slots(self) -> int:
        """Return how many cells it runs at once."""
        ...

    def start(self, digest: str, settings: Settings) -> None:
        """Begin a cell; fewer than `slots` are running."""
        ...

    def wait(self) -> Sequence[Outcome]:
        """Wait until at least one cell has ended, and return those that have."""
        ...

    def close(self) -> None:
        """End whatever still runs."""
        ...


def work_off(
    waiting: Mapping[str, Settings], executor: Executor, watcher: Watcher, seconds: float | None = None
) -> dict[str, str]:
    """Run the waiting cells.

    A cell whose process or node is lost is tried once more, with two workers: another process may have had
    the memory, or a hospital's code ended it, which then loses its own update alone. The bits are the same.

    Parameters
    ----------
    waiting : mapping of str to Settings
        By the hash of the settings, in the order in which they begin.
    executor : Executor
        Closed at the end.
    watcher : Watcher
    seconds : float, optional
        No cell begins after so many seconds.

    Returns
    -------
    dict
        The error of each cell that has no finished run; empty for one that was not begun.
    """
    queue = deque(waiting.items())
    ends = None if seconds is None else time.monotonic() + seconds
    running: dict[str, tuple[Settings, float]] = {}
    errors: dict[str, str] = {}
    retried: set[str] = set()
    try:
        while True:
            while queue and len(running) < executor.slots and (ends is None or time.monotonic() <= ends):
                digest, settings = queue.popleft()
                executor.start(digest, settings)
                running[digest] = settings, time.monotonic()
                watcher.began(settings)
            if not running:
                break
            for outcome in executor.wait():
                settings, since = running.pop(outcome.digest)
                if outcome.lost and outcome.digest not in retried:
                    retried.add(outcome.digest)
                    queue.append((outcome.digest, settings.model_copy(update={"workers": 2})))
                    watcher.ended(settings, None, time.monotonic() - since)
                    continue
                note_failure(settings, outcome.error)
                if outcome.error:
                    errors[outcome.digest] = outcome.error
                watcher.ended(settings, outcome.error, time.monotonic() - since)
    finally:
        executor.close()
    return errors | {digest: errors.get(digest, "") for digest, _ in queue}

"""The scheduler of cells over any executor: order, time limit, the second try and failures."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fedrobust.settings import Settings
from fedrobust.suites.progress import Watcher
from fedrobust.suites.store import CellStore, holder, note_failure, shortened

__all__ = ["Executor", "Outcome", "work_off"]

#: Where other commands run all cells that are left, they are asked after so often.
_PAUSE_S = 0.5


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
    held : bool
        Whether another process is running it, so that it is tried again when that one has ended.
    resumable : bool
        Whether its completed rounds are kept, so that the next start resumes it.
    """

    digest: str
    error: str = ""
    lost: bool = False
    held: bool = False
    resumable: bool = False


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
    waiting: Mapping[str, Settings],
    executor: Executor,
    watcher: Watcher,
    seconds: float | None = None,
    store: CellStore | None = None,
) -> dict[str, str]:
    """Run the waiting cells.

    A cell whose process or node is lost is tried once more, with two workers: another process may have had
    the memory, or a hospital's code ended it, which then loses its own update alone. The bits are the same.
    A cell that another command is running is waited for: its run is taken if it is finished then, and
    resumed if not.

    Parameters
    ----------
    waiting : mapping of str to Settings
        By the hash of the settings, in the order in which they begin.
    executor : Executor
        Closed at the end.
    watcher : Watcher
    seconds : float, optional
        No cell begins after so many seconds.
    store : CellStore, optional
        Tells which cells another command has finished meanwhile.

    Returns
    -------
    dict
        The error of each cell that has no finished run; empty for one that was not begun.
    """
    work = _Work(deque(waiting.items()), watcher, store or CellStore())
    ends = None if seconds is None else time.monotonic() + seconds
    running: dict[str, tuple[Settings, float]] = {}
    try:
        while True:
            in_time = ends is None or time.monotonic() <= ends
            while in_time and len(running) < executor.slots and (cell := work.next()):
                digest, settings = cell
                executor.start(digest, settings)
                running[digest] = settings, time.monotonic()
                watcher.began(settings)
            if running:
                for outcome in executor.wait():
                    settings, since = running.pop(outcome.digest)
                    work.ended(settings, outcome, time.monotonic() - since)
            elif work.queue and in_time:
                time.sleep(_PAUSE_S)  # Other commands run all that is left.
            else:
                break
    finally:
        executor.close()
    return work.errors | {digest: work.errors.get(digest, "") for digest, _ in work.queue}


@dataclass
class _Work:
    """The cells that have yet to begin, and what became of the others."""

    queue: deque[tuple[str, Settings]]
    watcher: Watcher
    store: CellStore
    errors: dict[str, str] = field(default_factory=dict)
    retried: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)

    def next(self) -> tuple[str, Settings] | None:
        """Take the first cell that no other command runs or has finished; None if there is none now."""
        for _ in range(len(self.queue)):
            digest, settings = self.queue.popleft()
            if who := holder(settings):
                self._wait_for(digest, settings, who)
            elif self.store.finished(settings):
                self.watcher.taken(settings)
            else:
                return digest, settings
        return None

    def ended(self, settings: Settings, outcome: Outcome, seconds: float) -> None:
        """Take what became of a cell."""
        digest = outcome.digest
        if outcome.held:
            self.watcher.ended(settings, None, seconds)
            self._wait_for(digest, settings, holder(settings))
        elif outcome.lost and digest not in self.retried:
            self.retried.add(digest)
            self.queue.append((digest, settings.model_copy(update={"workers": 2})))
            self.watcher.ended(settings, None, seconds)
        else:
            # Without room for the note the cell is resumed at the next start, instead of begun again.
            with contextlib.suppress(OSError):
                note_failure(settings, "" if outcome.resumable else outcome.error)
            if outcome.error:
                self.errors[digest] = shortened(outcome.error)
            self.watcher.ended(settings, outcome.error, seconds)

    def _wait_for(self, digest: str, settings: Settings, who: str) -> None:
        """Put a cell that another command runs at the end."""
        self.queue.append((digest, settings))
        if digest not in self.held:
            self.held.add(digest)
            self.watcher.held(settings, who or "another process")

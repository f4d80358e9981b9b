"""How far the cells of a suite are, said on stderr."""

from __future__ import annotations

import sys
import time
from typing import Protocol

from fedrobust.scenario import RunIdentity
from fedrobust.settings import Settings

__all__ = ["Bar", "Lines", "Silent", "Watcher", "span"]


class Watcher(Protocol):
    """Whoever wants to see cells while they run."""

    def planned(self, total: int, waiting: int) -> None:
        """Be told how many cells there are and how many of them have yet to run."""
        ...

    def began(self, settings: Settings) -> None:
        """Be told that a cell begins."""
        ...

    def ended(self, settings: Settings, error: str | None, seconds: float) -> None:
        """Be told that a cell has ended: the error is empty if it is whole, None if it will be tried once more."""
        ...

    def closed(self) -> None:
        """Be told that no more will come."""
        ...


class Silent:
    """Says nothing."""

    def planned(self, total: int, waiting: int) -> None:
        """Be silent."""

    def began(self, settings: Settings) -> None:
        """Be silent."""

    def ended(self, settings: Settings, error: str | None, seconds: float) -> None:
        """Be silent."""

    def closed(self) -> None:
        """Be silent."""


class _Counting:
    """Counts the cells, and reckons from their pace how long the others take."""

    def planned(self, total: int, waiting: int) -> None:
        """Begin to count."""
        self.total, self.waiting = total, waiting
        self.done = self.failed = self.running = 0
        self._began = time.monotonic()

    def began(self, settings: Settings) -> None:
        """Count one that runs."""
        self.running += 1

    def ended(self, settings: Settings, error: str | None, seconds: float) -> None:
        """Count one that has ended."""
        self.running -= 1
        if error is not None:
            self.failed += bool(error)
            self.done += not error

    @property
    def whole(self) -> int:
        """Return how many are finished, the earlier ones included."""
        return self.total - self.waiting + self.done

    def left_s(self) -> float:
        """Return how many seconds are left at this pace."""
        ended = self.done + self.failed
        pace = (time.monotonic() - self._began) / max(1, ended)
        return (self.waiting - ended) * pace


class Lines(_Counting):
    """Says a line for each cell that has ended: for logs and pipes."""

    def planned(self, total: int, waiting: int) -> None:
        """Say what was finished before."""
        super().planned(total, waiting)
        if total > waiting:
            self._say(f"{total - waiting} of {total} cells are finished already")

    def ended(self, settings: Settings, error: str | None, seconds: float) -> None:
        """Say what became of the cell, and how many are left."""
        super().ended(settings, error, seconds)
        self._say(f"{self.standing()} | {RunIdentity.of(settings).folder.name}: {fate(error, seconds)}")

    def standing(self) -> str:
        """Return the counts and the time left in a few words."""
        return f"{self.whole} of {self.total} done, {self.failed} failed, {span(self.left_s())} left"

    def closed(self) -> None:
        """Say nothing more."""

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class Bar(_Counting):
    """Shows one bar in a terminal, and a line for each cell that failed."""

    def planned(self, total: int, waiting: int) -> None:
        """Show the bar."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        super().planned(total, waiting)
        self._progress = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("cells", total=total, completed=total - waiting, state="")
        self._progress.start()

    def began(self, settings: Settings) -> None:
        """Count the cell as running."""
        super().began(settings)
        self._show()

    def ended(self, settings: Settings, error: str | None, seconds: float) -> None:
        """Move the bar; a failed cell stays above it."""
        super().ended(settings, error, seconds)
        if error != "":
            self._progress.console.print(
                f"{RunIdentity.of(settings).folder.name}: {fate(error, seconds)}",
                highlight=False,
                markup=False,
            )
        self._show()

    def closed(self) -> None:
        """Take the bar away."""
        self._progress.stop()

    def _show(self) -> None:
        left = f" · {span(self.left_s())} left" if self.done + self.failed else ""
        state = f"{self.whole} of {self.total} done · {self.running} running · {self.failed} failed{left}"
        self._progress.update(self._task, completed=self.whole + self.failed, state=state)


def fate(error: str | None, seconds: float) -> str:
    """Return what became of a cell, in a few words."""
    if error is None:
        return "its process died; it will be tried once more"
    return f"FAILED: {error.strip().splitlines()[-1]}" if error else f"{seconds:.1f} s"


def span(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"

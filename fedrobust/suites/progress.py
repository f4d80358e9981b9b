"""The progress of a suite's cells, on stderr."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from fedrobust.printing import PlainConsole, one_line
from fedrobust.scenario import RunIdentity
from fedrobust.settings import Settings

__all__ = ["Bar", "Lines", "Silent", "Watcher", "span"]


class Watcher(Protocol):
    """Receives the progress of cells."""

    def planned(self, total: int, waiting: int, changes: Sequence[str] = ()) -> None:
        """Receive the number of cells, how many have yet to run, and why finished ones are run again."""
        ...

    def began(self, settings: Settings) -> None:
        """Receive a cell that begins."""
        ...

    def ended(self, settings: Settings, error: str | None, seconds: float) -> None:
        """Receive a cell that has ended; its error is empty for a complete run, None if it is tried again."""
        ...

    def held(self, settings: Settings, who: str) -> None:
        """Receive a cell that another process is running, and which one; it is waited for."""
        ...

    def taken(self, settings: Settings) -> None:
        """Receive a cell that another process has finished."""
        ...

    def closed(self) -> None:
        """Receive the end."""
        ...


class Silent:
    """Prints nothing."""

    def planned(self, total: int, waiting: int, changes: Sequence[str] = ()) -> None:
        """Print nothing."""

    def began(self, settings: Settings) -> None:
        """Print nothing."""

    def ended(self, settings: Settings, error: str | None, seconds: float) -> None:
        """Print nothing."""

    def held(self, settings: Settings, who: str) -> None:
        """Print nothing."""

    def taken(self, settings: Settings) -> None:
        """Print nothing."""

    def closed(self) -> None:
        """Print nothing."""


class _Counting:
    """Counts the cells, and estimates from their pace how long the others take."""

    def planned(self, total: int, waiting: int, changes: Sequence[str] = ()) -> None:
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

    def taken(self, settings: Settings) -> None:
        """Count one that another process has finished."""
        self.done += 1

    @property
    def complete(self) -> int:
        """Return how many are finished, the earlier ones included."""
        return self.total - self.waiting + self.done

    def left_s(self) -> float:
        """Return how many seconds are left at this pace."""
        ended = self.done + self.failed
        pace = (time.monotonic() - self._began) / max(1, ended)
        return (self.waiting - ended) * pace


class Lines(_Counting):
    """Prints a line for each cell that has ended: for logs and pipes."""

    def planned(self, total: int, waiting: int, changes: Sequence[str] = ()) -> None:
        """Print how many were finished before."""
        super().planned(total, waiting, changes)
        if total > waiting:
            self._print(f"{total - waiting} of {total} cells are finished already")
        for line in run_again(changes):
            self._print(line)

    def ended(self, settings: Settings, error: str | None, seconds: float) -> None:
        """Print what became of the cell, and how many are left."""
        super().ended(settings, error, seconds)
        self._print(f"{self.counts()} | {RunIdentity.of(settings).folder.name}: {fate(error, seconds)}")

    def held(self, settings: Settings, who: str) -> None:
        """Print that the cell is waited for."""
        self._print(held_by(settings, who))

    def counts(self) -> str:
        """Return the counts and the time left in a few words."""
        return f"{self.complete} of {self.total} done, {self.failed} failed, {span(self.left_s())} left"

    def closed(self) -> None:
        """Print nothing more."""

    def _print(self, text: str) -> None:
        print(one_line(text), file=sys.stderr, flush=True)


class Bar(_Counting):
    """Shows one bar in a terminal, and a line for each cell that failed."""

    def planned(self, total: int, waiting: int, changes: Sequence[str] = ()) -> None:
        """Show the bar."""
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        super().planned(total, waiting, changes)
        self._progress = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[state]}", markup=False),
            TimeElapsedColumn(),
            console=PlainConsole(stderr=True),
            transient=True,
        )
        for line in run_again(changes):
            self._progress.console.print(one_line(line))
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
                one_line(f"{RunIdentity.of(settings).folder.name}: {fate(error, seconds)}")
            )
        self._show()

    def held(self, settings: Settings, who: str) -> None:
        """Print above the bar that the cell is waited for."""
        self._progress.console.print(held_by(settings, who), highlight=False, markup=False)

    def closed(self) -> None:
        """Take the bar away."""
        self._progress.stop()

    def _show(self) -> None:
        left = f" · {span(self.left_s())} left" if self.done + self.failed else ""
        state = f"{self.complete} of {self.total} done · {self.running} running · {self.failed} failed{left}"
        self._progress.update(self._task, completed=self.complete + self.failed, state=state)


def held_by(settings: Settings, who: str) -> str:
    """Return that a cell is waited for."""
    return f"{RunIdentity.of(settings).folder.name}: {who} is running it; its run is waited for"


def run_again(changes: Sequence[str]) -> list[str]:
    """Return which finished cells are run again and why, a line for each reason."""
    return [
        f"{count} finished {'cell is' if count == 1 else 'cells are'} run again: {change}"
        for change, count in Counter(changes).items()
    ]


def fate(error: str | None, seconds: float) -> str:
    """Return what became of a cell, in a few words."""
    if error is None:
        return "it was cut off; it will be tried again"
    return f"FAILED: {error.strip().splitlines()[-1]}" if error else f"{seconds:.1f} s"


def span(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"

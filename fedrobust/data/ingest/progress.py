"""A progress bar on standard error for what takes long, at a terminal only."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from fedrobust.printing import PlainConsole, one_line

__all__ = ["Progress"]


class Progress(AbstractContextManager["Progress"]):
    """Counts up to a total.

    Parameters
    ----------
    what : str
        What is done.
    total : int
    """

    def __init__(self, what: str, total: int) -> None:
        """Draw nothing unless standard error is a terminal."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._shown = sys.stderr.isatty()
        self._bar = RichProgress(
            *columns, console=PlainConsole(file=sys.stderr), transient=True, disable=not self._shown
        )
        self._task = self._bar.add_task(one_line(what), total=total)

    def __enter__(self) -> Self:
        """Draw the bar."""
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take the bar away."""
        self._bar.stop()

    def advance(self) -> None:
        """Count one more."""
        if self._shown:  # a bar that is not drawn would still take time to count
            self._bar.advance(self._task)

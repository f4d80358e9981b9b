"""A progress bar on standard error for what takes long, at a terminal only."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

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
        self._bar: RichProgress | None = None
        if not sys.stderr.isatty():  # rich takes a tenth of a second to import
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        from fedrobust.printing import PlainConsole, one_line

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Bar(*columns, console=PlainConsole(file=sys.stderr), transient=True)
        self._task = self._bar.add_task(one_line(what), total=total)

    def __enter__(self) -> Self:
        """Draw the bar."""
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()

    def advance(self) -> None:
        """Count one more."""
        if self._bar is not None:
            self._bar.advance(self._task)

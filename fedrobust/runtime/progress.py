"""Shows a run while it runs: a bar in a terminal, lines elsewhere (a notebook, a log file)."""

from __future__ import annotations

import sys
import time
from statistics import median
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.text import Text

from fedrobust.printing import PlainConsole, one_line
from fedrobust.robustness.measure import Step
from fedrobust.runtime.observers import Observer, RoundOutcome, RunStart
from fedrobust.scenario import Scenario
from fedrobust.tasks import task_class

__all__ = ["Progress", "interactive", "time_left"]

#: Without a terminal, replies within a round are shown no more often than this, in seconds.
EVERY = 10.0


class Progress(Observer):
    """Shows the start, the rounds and the time left of a run on standard error.

    As a context manager it shows from the beginning that the run is being prepared.

    Parameters
    ----------
    quiet : bool
        Show nothing.
    console : rich.console.Console, optional
        Where to; standard error unless given.
    """

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        """Prepare the bar; nothing is shown yet."""
        # A notebook gets plain lines: rich's own output for it needs a widget for each line.
        self._console = console or PlainConsole(stderr=True, force_jupyter=False)
        self._quiet = quiet
        self._lines = not quiet and not self._console.is_terminal
        self._bar = Bar(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
            disable=quiet or self._lines,
            transient=True,
        )
        self._task = self._bar.add_task("preparing data and workers", total=None, state="")
        self._clients = self._rounds = self._round = self._replies = 0
        self._state = ""
        self._shown_of = task_class().shown
        self._seconds: list[float] = []
        self._lap = self._shown = time.monotonic()

    def __enter__(self) -> Self:
        """Show that the run is being prepared; a terminal only, where it goes again."""
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the bar."""
        self._bar.stop()

    def started(self, start: RunStart) -> None:
        """Show what runs."""
        scenario = start.scenario
        self._shown_of = task_class(scenario.task).shown
        self._clients, self._rounds = scenario.hospitals, scenario.rounds
        self._round = start.completed
        self._replies = start.completed * scenario.hospitals
        self._lap = self._shown = time.monotonic()
        if self._quiet:
            return
        self._print(
            (f"{scenario.hospitals} hospitals", "bold"),
            f", {_threats(scenario)} · {start.source} · {scenario.strategy.text}",
        )
        self._bar.start()
        self._update()

    def replied(self) -> None:
        """Count a hospital's reply."""
        self._replies += 1
        self._update()
        now = time.monotonic()
        if self._lines and now - self._shown > EVERY:
            done = self._replies - self._round * self._clients
            self._print(
                f"round {self._round + 1}/{self._rounds}: {done} of {self._clients} hospitals{self._left()}"
            )

    def round_done(self, outcome: RoundOutcome) -> None:
        """Show the round's metrics; name the hospitals that failed."""
        line = outcome.line
        self._round = outcome.number
        self._replies = self._round * self._clients
        flagged = ",".join(str(number) for number in line.flagged) or "none"
        found = [f"{name} {_number(value)}" for name, value in self._shown_of(line).items()]
        now = time.monotonic()
        self._seconds.append(now - self._lap)
        self._lap = now
        self._state = f"{found[0]}, flagged {flagged}"
        self._update()
        if self._lines:
            state = f"{', '.join(found)}, flagged {flagged}"
            self._print(f"round {self._round}/{self._rounds}: {state}{self._left()}")
        for fault in () if self._quiet else line.faults:
            self._print(
                (
                    f"round {self._round}: hospital {fault.hospital} failed, its update is discarded:",
                    "yellow",
                ),
                f" {fault.reason}",
            )

    def evaluating(self, step: Step) -> None:
        """Show a note on the costs, and how far the evaluations are."""
        if step.note and not self._quiet:
            self._print(step.note)
        if not step.total:
            return
        self._bar.update(
            self._task, description=step.text, total=step.total, completed=step.done, state="images"
        )
        if self._lines and time.monotonic() - self._shown > EVERY:
            self._print(f"{step.text}: {step.done} of {step.total} images")

    def finished(self, result: object) -> None:
        """Remove the bar."""
        self._bar.stop()

    def _update(self) -> None:
        following = min(self._round + 1, self._rounds)
        self._bar.update(
            self._task,
            description=f"round {following}",
            total=self._rounds * self._clients,
            completed=self._replies,
            state=self._state + self._left(),
        )

    def _left(self) -> str:
        """Return how long the run will take at most, once a round is done; empty before and at the end."""
        ahead = self._rounds - self._round
        if not self._seconds or not ahead:
            return ""
        # The last rounds: the first one also pays for what is made once.
        return f", {time_left(median(self._seconds[-5:]) * ahead)} left"

    def _print(self, *pieces: str | tuple[str, str]) -> None:
        """Print a line made of texts, those in pairs in a style."""
        self._shown = time.monotonic()
        styled = [(piece, "") if isinstance(piece, str) else piece for piece in pieces]
        line = Text.assemble(*((one_line(text), style) for text, style in styled))
        self._console.print(line, highlight=False, soft_wrap=True)


def interactive() -> bool:
    """Return whether somebody watches this interpreter: a notebook or a prompt."""
    return hasattr(sys, "ps1") or "ipykernel" in sys.modules


def time_left(seconds: float) -> str:
    """Return a duration in words, no finer than it can be known."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min"
    return f"about {seconds / 3600:.1f} h"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _threats(scenario: Scenario) -> str:
    """Return how many hospitals attack and how, and how many are atypical."""
    short = not scenario.run.settings.threat
    texts = {
        threat: threat.attacks.text + ("" if short else f":{len(threat.hospitals)}")
        for threat in scenario.threats
    }
    attacks = "; ".join(text for threat, text in texts.items() if threat.malicious)
    behaviours = "; ".join(text for threat, text in texts.items() if not threat.malicious)
    words = f"{len(scenario.malicious)} of them malicious ({attacks})" if attacks else "none malicious"
    return words + (f", {len(scenario.atypical)} atypical ({behaviours})" if behaviours else "")

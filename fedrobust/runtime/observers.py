"""What a run tells those who follow it: its start, each reply, each round and its end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fedrobust.results.records import ClientMetricsLine, RoundLine, VerdictLine
from fedrobust.robustness.measure import Step
from fedrobust.scenario import Scenario

if TYPE_CHECKING:
    from flwr.app import ArrayRecord

    from fedrobust.runtime.result import Result

__all__ = ["Observer", "Observers", "RoundOutcome", "RunStart"]


@dataclass(frozen=True)
class RunStart:
    """A run whose hospitals are connected, before its next round.

    Attributes
    ----------
    scenario : Scenario
    malicious : tuple of int
        The numbers of the malicious hospitals, ascending.
    source : str
        Where the images come from, in words.
    folder : Path
        Where the run's files are until it is complete; ``--resume`` takes this folder.
    completed : int
        Rounds that a resumed run had completed before.
    """

    scenario: Scenario
    malicious: tuple[int, ...]
    source: str
    folder: Path
    completed: int = 0


@dataclass(frozen=True)
class RoundOutcome:
    """Everything that one round gave.

    Attributes
    ----------
    line : RoundLine
        The round's line of ``rounds.jsonl``: metrics, failures, and which attacks and steps had no effect.
    verdict : VerdictLine
        Its line of ``verdicts.jsonl``.
    client_metrics : ClientMetricsLine
        Its line of ``client_metrics.jsonl``: unverified metrics that the hospitals reported.
    arrays : ArrayRecord or None
        The new global model; None for a run in another process, of which only the lines are known.
    defence_mib : float or None
        Peak memory that the aggregation took; None where the system does not say.
    """

    line: RoundLine
    verdict: VerdictLine
    client_metrics: ClientMetricsLine
    arrays: ArrayRecord | None = None
    defence_mib: float | None = None

    @property
    def number(self) -> int:
        """Return the round's number, from 1."""
        return self.line.round


class Observer:
    """Follows a run; a subclass overrides the events that it needs.

    The events come in this order: `started` once, then for each round `replied` for each hospital and
    `round_done`, `evaluating` where the settings name evaluations, and `finished` once the run folder is
    complete. The run's own files are written before an observer is notified, so an error that an observer
    raises ends the run but loses no completed round.
    """

    def started(self, start: RunStart) -> None:
        """Handle that the next round is about to begin."""

    def replied(self) -> None:
        """Handle that a hospital has trained, where the engine can tell."""

    def round_done(self, outcome: RoundOutcome) -> None:
        """Handle a completed round."""

    def evaluating(self, step: Step) -> None:
        """Handle how far the evaluations of the last model are; the first step is a note on costs."""

    def finished(self, result: Result) -> None:
        """Handle the end of the run; the run folder is in its final place."""


class Observers(Observer):
    """Several observers as one, called in their order."""

    def __init__(self, members: Iterable[Observer]) -> None:
        """Keep the members."""
        self._members = tuple(members)

    def started(self, start: RunStart) -> None:
        """Tell every member."""
        for member in self._members:
            member.started(start)

    def replied(self) -> None:
        """Tell every member."""
        for member in self._members:
            member.replied()

    def round_done(self, outcome: RoundOutcome) -> None:
        """Tell every member."""
        for member in self._members:
            member.round_done(outcome)

    def evaluating(self, step: Step) -> None:
        """Tell every member."""
        for member in self._members:
            member.evaluating(step)

    def finished(self, result: Result) -> None:
        """Tell every member."""
        for member in self._members:
            member.finished(result)

"""The observers that write a run's files after each round."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flwr.serverapp.strategy import Strategy

from fedrobust.flower.codec import unpack
from fedrobust.results.checkpoint import save_checkpoint
from fedrobust.results.folder import RunFolder
from fedrobust.runtime.observers import Observer, RoundOutcome, RunStart
from fedrobust.runtime.profiling import Profile
from fedrobust.tasks import Task

if TYPE_CHECKING:
    from fedrobust.runtime.result import Result

__all__ = ["CheckpointFile", "RoundFiles", "TaskFiles", "TimingsFile", "recorders"]


def recorders(folder: RunFolder, strategy: Strategy, task: Task, profile: Profile) -> list[Observer]:
    """Return the observers that write a run's rounds into its folder, in the order that they need."""
    return [
        RoundFiles(folder, profile),
        TaskFiles(folder, task, profile),
        TimingsFile(folder, profile),
        CheckpointFile(folder, strategy, profile),
    ]


class RoundFiles(Observer):
    """Appends each round's lines to the ``.jsonl`` files."""

    def __init__(self, folder: RunFolder, profile: Profile) -> None:
        """Write into this folder."""
        self._folder = folder
        self._profile = profile

    def round_done(self, outcome: RoundOutcome) -> None:
        """Append the lines."""
        with self._profile.phase("records"):
            self._folder.append("rounds.jsonl", outcome.line)
            self._folder.append("verdicts.jsonl", outcome.verdict)
            self._folder.append("client_metrics.jsonl", outcome.client_metrics)


class TaskFiles(Observer):
    """Writes what the task keeps of a round's model, in files of their own."""

    def __init__(self, folder: RunFolder, task: Task, profile: Profile) -> None:
        """Write into this folder."""
        self._folder = folder
        self._task = task
        self._profile = profile

    def round_done(self, outcome: RoundOutcome) -> None:
        """Let the task write; a round without a new model has nothing new to show."""
        if outcome.arrays is not None and outcome.line.not_kept is None:
            with self._profile.phase("records"):
                self._task.write_round(self._folder, unpack(outcome.arrays), outcome.number)


class CheckpointFile(Observer):
    """Writes the state to resume from; after all lines of the round, as the checkpoint states them."""

    def __init__(self, folder: RunFolder, strategy: Strategy, profile: Profile) -> None:
        """Write the state of this strategy into this folder."""
        self._folder = folder
        self._strategy = strategy
        self._profile = profile

    def round_done(self, outcome: RoundOutcome) -> None:
        """Replace the checkpoint."""
        if outcome.arrays is None:
            raise ValueError("a checkpoint needs the round's model")
        with self._profile.phase("records"):
            save_checkpoint(self._folder, outcome.number, outcome.arrays, self._strategy)


class TimingsFile(Observer):
    """Writes where the time went, apart from the results, which do not depend on the engine.

    A round's line is written before its checkpoint, whose seconds count to the next round.
    """

    def __init__(self, folder: RunFolder, profile: Profile) -> None:
        """Write the laps of this profile into this folder."""
        self._folder = folder
        self._profile = profile

    def started(self, start: RunStart) -> None:
        """Write the seconds before the first round as those of round 0; a resumed run has that line."""
        lap = self._lap()
        if not start.completed:
            self._folder.append("timings.jsonl", {"round": 0, **lap})

    def round_done(self, outcome: RoundOutcome) -> None:
        """Write the round's seconds and the memory that the aggregation took."""
        line = {"round": outcome.number, **self._lap(), "defence_mib": outcome.defence_mib}
        self._folder.append("timings.jsonl", line)

    def finished(self, result: Result) -> None:
        """End the last round's time."""
        self._profile.close()

    def _lap(self) -> dict[str, float]:
        return {phase: round(seconds, 4) for phase, seconds in self._profile.lap().items()}

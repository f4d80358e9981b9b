"""What the rounds of a run ask of a task; everything else about it stays inside the task."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import ClassVar, Protocol

from fedrobust.evaluation.server_data import ServerShare
from fedrobust.learners.base import Learner, State
from fedrobust.results.folder import RunFolder
from fedrobust.results.records import RoundLine
from fedrobust.robustness.measure import Step

__all__ = ["Task", "Tell"]

Tell = Callable[[Step], None]


class Task(Protocol):
    """A learner with everything that is measured of it and written about it.

    Attributes
    ----------
    name : str
        As the manifest has it.
    report_sections : tuple of str
        The sections of a run's page that belong to the task; all others are common to all tasks.
    learner : Learner
        What the hospitals train.
    """

    name: ClassVar[str]
    report_sections: ClassVar[tuple[str, ...]]
    learner: Learner

    def evaluate(self, state: State) -> Mapping[str, object]:
        """Return what the server measures of a global model, for the round's line of ``rounds.jsonl``."""
        ...

    def validation_loss(self, line: RoundLine) -> float | None:
        """Return the loss that decides on learning rate and patience; None if it is not finite."""
        ...

    def server_data(self, share: float) -> ServerShare | None:
        """Return a share of the server's own images, for a defence that asks for it.

        None where models have no loss on labelled images.
        """
        ...

    def set_unknown(self, hospitals: frozenset[int]) -> None:
        """Take note of the hospitals with data of their own, which the server does not know."""
        ...

    def set_hospital_models(self, models: Mapping[int, State]) -> None:
        """Take note of the models that the hospitals sent in a round, by number; for tests at each site."""
        ...

    def write_round(self, folder: RunFolder, state: State, round: int) -> None:
        """Write what a report needs of a round's global model, beside its line of ``rounds.jsonl``."""
        ...

    def summary(self, line: RoundLine) -> Mapping[str, object]:
        """Return what the run's summary holds of the last round's line; asked after `write_final`."""
        ...

    @staticmethod
    def shown(line: RoundLine) -> Mapping[str, float | None]:
        """Return what a run shows of a round while it runs, the shortest first."""
        ...

    def write_final(self, folder: RunFolder, state: State, silent: Collection[int], tell: Tell) -> None:
        """Write the last model and what a report needs of it.

        Parameters
        ----------
        folder : RunFolder
        state : State
            The last global model.
        silent : collection of int
            Hospitals that failed in every round.
        tell : callable
            Told how far evaluations of the last model are.
        """
        ...

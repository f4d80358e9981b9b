"""The honest hospital, and the hooks at which an attack turns it into another."""

from __future__ import annotations

from collections.abc import Sequence

from fedrobust.data.records import Records
from fedrobust.federation import Attack, Client, Update, Vector
from fedrobust.learners.base import Learner, State
from fedrobust.seeding import generator

__all__ = ["Hospital"]


class Hospital(Client):
    """Trains the received model on its own records and reports truthfully, unless attacks are given.

    Parameters
    ----------
    number : int
        The hospital's partition id.
    records : Records
        Its training images.
    learner : Learner
        What it trains.
    attacks : sequence of Attack
        Applied in order: each sees what the one before it made. Empty for an honest hospital.
    seed : int
        The run's seed.
    """

    def __init__(
        self, number: int, records: Records, learner: Learner, attacks: Sequence[Attack] = (), seed: int = 0
    ) -> None:
        """Poison the records, if an attack does that."""
        self.number = number
        self._learner = learner
        self._attacks = tuple(attacks)
        self._seed = seed
        for attack in self._armed(0):
            records = attack.poison_records(records)
        self.records = records

    def fit(self, parameters: Vector, buffers: Vector, round: int, lr: float) -> Update:
        """Train from the received parameters and return the update to send."""
        state = State(parameters, buffers)
        fitted = self._learner.fit(state, self.records, round=round, client=self.number, lr=lr)
        report = fitted.report
        trained = fitted.state
        update = Update(self.number, trained.parameters, report, parameters, trained.buffers, round)
        for attack in self._armed(round):
            update = attack.poison_update(update)
            report = attack.forge_report(report)
        return Update(self.number, update.parameters, report, parameters, update.buffers, round)

    def _armed(self, round: int) -> Sequence[Attack]:
        """Give each attack a generator of its own for this round."""
        for place, attack in enumerate(self._attacks):
            attack.rng = generator(self._seed, "attack", place, round, self.number)
        return self._attacks

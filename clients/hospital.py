"""The honest hospital, and the hooks at which an attack turns it into another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fedrobust.attacks.compare import same_report, same_update, to_change
from fedrobust.data.records import Records
from fedrobust.federation import Attack, Client, GradientHook, Update, Vector
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

    Attributes
    ----------
    records : Records
        What it trains on while its attacks are is_active.
    idle : tuple of str
        The attacks that changed nothing in the last round: neither records nor update nor report.
    """

    def __init__(
        self, number: int, records: Records, learner: Learner, attacks: Sequence[Attack] = (), seed: int = 0
    ) -> None:
        """Poison the records, if an attack does that."""
        self.number = number
        self.idle: tuple[str, ...] = ()
        self._learner = learner
        self._attacks = tuple(attacks)
        self._seed = seed
        self._clean = records
        self._poisoners: set[int] = set()
        for place, attack in enumerate(self._armed(0)):
            poisoned = attack.poison_records(_to_change(records))
            if not _same_records(poisoned, records):
                self._poisoners.add(place)
            records = poisoned
        self.records = records if self._poisoners else self._clean

    def fit(self, parameters: Vector, buffers: Vector, round: int, lr: float) -> Update:
        """Train from the received parameters and return the update to send."""
        received = State(parameters, buffers)
        if not all(attack.is_active(round) for attack in self._attacks):
            self.idle = tuple(_name(attack) for attack in self._attacks if attack.is_active(round))
            return self._trained(received, self._clean, round, lr)
        attacks = self._armed(round)
        curious = [attack for attack in attacks if attack.needs_honest]
        apart = bool(self._poisoners) or any(attack.hooks_gradient for attack in attacks)
        if curious:
            honest = self._trained(received, self._clean, round, lr)
            for attack in curious:
                attack.honest = to_change(honest)
        steering = {
            place: how for place, attack in enumerate(attacks) if (how := attack.gradient_hook(parameters))
        }
        if curious and not apart:
            update = honest
        else:
            update = self._trained(received, self.records, round, lr, _in_turn(list(steering.values())))
        report = update.report
        busy = self._poisoners | set(steering)
        for place, attack in enumerate(attacks):
            # An attack may work in place: it gets what is its own.
            moved = attack.poison_update(to_change(update)) if _moves(attack) else update
            claimed = attack.forge_report(replace(report, values=dict(report.values)))
            if not (same_update(moved, update) and same_report(claimed, report)):
                busy.add(place)
            update, report = moved, claimed
        # The received model lies in memory that is only lent for the round.
        for attack in curious:
            del attack.honest
        # An attack that stands in the chain twice is at work if it is so once. One that sees several updates does its
        # work on the hospital's reply, where it is taken from these if it changes something.
        at_work = {_name(attacks[place]) for place in busy}
        self.idle = tuple(name for attack in attacks if (name := _name(attack)) not in at_work)
        return Update(self.number, update.parameters, report, parameters, update.buffers, round)

    def _trained(
        self,
        received: State,
        records: Records,
        round: int,
        lr: float,
        gradient_hook: GradientHook | None = None,
    ) -> Update:
        """Return the truthful update of a training on these records, bent if an attack asks for it."""
        # A learner that nobody hooks_gradient need not know of it.
        bent = {} if gradient_hook is None else {"gradient_hook": gradient_hook}
        fitted = self._learner.fit(received, records, round=round, client=self.number, lr=lr, **bent)
        state = fitted.state
        return Update(
            node=self.number,
            parameters=state.parameters,
            report=fitted.report,
            global_parameters=received.parameters,
            buffers=state.buffers,
            round=round,
            global_buffers=received.buffers,
        )

    def _armed(self, round: int) -> Sequence[Attack]:
        """Give each attack a generator of its own for this round."""
        for place, attack in enumerate(self._attacks):
            attack.rng = generator(self._seed, "attack", place, round, self.number)
        return self._attacks


def _in_turn(steering: Sequence[GradientHook]) -> GradientHook | None:
    """Return one steering that applies several in order; None where there is none."""
    if not steering:
        return None

    def bent(parameters: Vector, gradient: Vector) -> Vector:
        for how in steering:
            gradient = how(parameters, gradient)
        return gradient

    return bent


def _name(attack: Attack) -> str:
    return attack.role.name or type(attack).__name__


def _moves(attack: Attack) -> bool:
    return type(attack).poison_update is not Attack.poison_update


def _to_change(records: Records) -> Records:
    """Return records whose images and labels an attack may change in place; sleeping hospitals need the true ones."""
    return replace(records, images=records.images.copy(), labels=records.labels.copy())


def _same_records(one: Records, other: Records) -> bool:
    if one is other:
        return True
    return np.array_equal(one.labels, other.labels) and np.array_equal(one.images, other.images)

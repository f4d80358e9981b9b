"""The hospital, and the hooks at which its behaviours and attacks change what it does."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np

from fedrobust.attacks import hooks
from fedrobust.attacks.compare import same_report, same_update, to_change
from fedrobust.attacks.hooks import name_of
from fedrobust.data.records import Records
from fedrobust.federation import (
    Attack,
    Behaviour,
    Client,
    GradientHook,
    LocalTraining,
    Memory,
    Update,
    Vector,
)
from fedrobust.learners.base import Learner, State
from fedrobust.learners.in_hand import InHand
from fedrobust.learners.proximal import proximal_hook
from fedrobust.seeding import attack_rng

__all__ = ["Hospital"]

#: The names of what the learner remembers: of the trainings whose updates are sent, and of those without any
#: attack that an attack compares them with.
_LEARNER, _COMPARED = "learner", "compared-learner"


class Hospital(Client):
    """Trains the received model on its records and reports its true metrics, unless behaviours change that.

    Parameters
    ----------
    number : int
        The hospital's partition id.
    records : Records
        Its training images.
    learner : Learner
        What it trains.
    behaviours : sequence of Behaviour
        Applied in order: each sees what the one before it made. Empty for a hospital like all others.
    seed : int
        The run's seed.

    Attributes
    ----------
    records : Records
        What it trains on while its behaviours are active.
    no_effect : tuple of str
        The behaviours that had no effect in the last round: neither records nor update nor report.
    """

    def __init__(
        self,
        number: int,
        records: Records,
        learner: Learner,
        behaviours: Sequence[Behaviour] = (),
        seed: int = 0,
    ) -> None:
        """Change the records, if a behaviour does that."""
        self.number = number
        self.no_effect: tuple[str, ...] = ()
        self.memory: dict[str, Memory] = {}
        self._learner = learner
        self._behaviours = tuple(behaviours)
        self._seed = seed
        self._proximal_mu = 0.0
        self._clean = records
        self._transformers: set[int] = set()
        self._bind(0)
        for place, behaviour in enumerate(self._behaviours):
            made = hooks.transform_records(behaviour, _to_change(records))
            if not _same_records(made, records):
                self._transformers.add(place)
            records = made
        self.records = records if self._transformers else self._clean

    def fit(
        self, parameters: Vector, buffers: Vector, round: int, lr: float, proximal_mu: float = 0.0
    ) -> Update:
        """Train from the received parameters and return the update to send."""
        received = State(parameters, buffers)
        self._proximal_mu = proximal_mu
        self._bind(round)
        active = [hooks.is_active(behaviour, round) for behaviour in self._behaviours]
        if not all(active):
            self.memory.pop(_COMPARED, None)
            on = zip(self._behaviours, active, strict=True)
            self.no_effect = tuple(name_of(behaviour) for behaviour, is_on in on if is_on)
            return self._trained(received, self._clean, round, lr)
        attacks = {place: one for place, one in enumerate(self._behaviours) if isinstance(one, Attack)}
        try:
            return self._attacked(attacks, received, round, lr)
        finally:
            # The received model lies in memory that is valid only during the round.
            for attack in attacks.values():
                attack.bind()

    def _attacked(self, attacks: dict[int, Attack], received: State, round: int, lr: float) -> Update:
        """Return the update of a round in which the behaviours are active."""
        needs_benign = [attack for attack in attacks.values() if attack.needs_honest]
        plan = next((one.local_training for one in attacks.values() if one.local_training), None)
        separate_run = bool(self._transformers) or plan is not None
        separate_run |= any(attack.hooks_gradient or attack.renews_records for attack in attacks.values())
        model = None
        if any(attack.needs_model for attack in attacks.values()):
            model = InHand(
                self._learner, received, self._clean, list(attacks.values()), self.number, round, lr
            )
            for attack in attacks.values():
                attack.bind(model=model)
        if needs_benign:
            # The training whose update is not sent starts from what the last one like it left.
            learner = self.memory.get(_COMPARED, self.memory.get(_LEARNER, {}))
            if separate_run and learner:
                self.memory[_COMPARED] = deepcopy(learner)
            kept = _COMPARED if separate_run else _LEARNER
            benign = self._trained(received, self._clean, round, lr, kept=kept)
            for attack in needs_benign:
                attack.bind(honest=to_change(benign), model=model)
        records, renewed = self._renewed(attacks)
        gradient_hooks = {
            place: hook
            for place, attack in attacks.items()
            if (hook := hooks.gradient_hook(attack, received.parameters))
        }
        if needs_benign and not separate_run:
            update = benign
        else:
            hook = _joined(list(gradient_hooks.values()))
            update = self._trained(received, records, round, lr, hook, plan=plan)
        report = update.report
        effective = self._transformers | set(gradient_hooks) | renewed
        effective |= {place for place, one in attacks.items() if one.local_training}
        for place, attack in attacks.items():
            # An attack may work in place: it gets what is its own.
            moved = hooks.poison_update(attack, to_change(update)) if _moves(attack) else update
            reported = hooks.forge_report(attack, replace(report, values=dict(report.values)))
            if not (same_update(moved, update) and same_report(reported, report)):
                effective.add(place)
            update, report = moved, reported
        # A behaviour that stands in the chain twice has an effect if it has one once. An attack that sees
        # several updates acts on the hospital's reply, where it is taken from these if it changes something.
        names = [name_of(behaviour) for behaviour in self._behaviours]
        with_effect = {names[place] for place in effective}
        self.no_effect = tuple(name for name in names if name not in with_effect)
        return Update(self.number, update.parameters, report, received.parameters, update.buffers, round)

    def _renewed(self, attacks: dict[int, Attack]) -> tuple[Records, set[int]]:
        """Return the records of this round's training, and the places of the attacks that changed them."""
        records, renewed = self.records, set()
        for place, attack in attacks.items():
            if attack.renews_records:
                made = hooks.round_records(attack, _to_change(records))
                if not _same_records(made, records):
                    renewed.add(place)
                    records = made
        return records, renewed

    def _trained(
        self,
        received: State,
        records: Records,
        round: int,
        lr: float,
        gradient_hook: GradientHook | None = None,
        kept: str = _LEARNER,
        plan: LocalTraining | None = None,
    ) -> Update:
        """Return the update of a training on these records, with its true metrics.

        `kept` names the learner's memory of trainings like this one; `plan` is an attacker's own.
        """
        if self._proximal_mu:
            # First: an attack changes the gradient of what the hospital is asked to minimise.
            term = proximal_hook(received.parameters, self._proximal_mu)
            gradient_hook = _joined([term] if gradient_hook is None else [term, gradient_hook])
        # A learner whose gradients nobody changes need not know of hooks.
        more: dict[str, Any] = {} if gradient_hook is None else {"gradient_hook": gradient_hook}
        if plan is not None:
            lr = lr if plan.lr is None else plan.lr
            chosen = {"epochs": plan.epochs, "radius": plan.radius}
            more |= {name: value for name, value in chosen.items() if value is not None}
        if getattr(self._learner, "remembers", False):
            more["memory"] = self.memory.setdefault(kept, {})
        fitted = self._learner.fit(received, records, round=round, client=self.number, lr=lr, **more)
        state = fitted.state
        return Update(
            node=self.number,
            parameters=state.parameters,
            report=fitted.report,
            global_parameters=received.parameters,
            buffers=state.buffers,
            round=round,
            global_buffers=received.buffers,
            layout=getattr(self._learner, "layout", None),
        )

    def _bind(self, round: int) -> None:
        """Give each behaviour a generator of its own for this round, and what it remembers."""
        for place, behaviour in enumerate(self._behaviours):
            memory = self.memory.setdefault(f"behaviour-{place}", {})
            behaviour.bind(rng=attack_rng(self._seed, place, round, self.number), memory=memory)


def _joined(gradient_hooks: Sequence[GradientHook]) -> GradientHook | None:
    """Return one gradient hook that applies several in order; None where there is none."""
    if not gradient_hooks:
        return None

    def hooked(parameters: Vector, gradient: Vector) -> Vector:
        for hook in gradient_hooks:
            gradient = hook(parameters, gradient)
        return gradient

    return hooked


def _moves(attack: Attack) -> bool:
    return type(attack).poison_update is not Attack.poison_update


def _to_change(records: Records) -> Records:
    """Return records that may be changed in place; while a behaviour is inactive the true ones are needed."""
    return replace(records, images=records.images.copy(), labels=records.labels.copy())


def _same_records(one: Records, other: Records) -> bool:
    if one is other:
        return True
    return np.array_equal(one.labels, other.labels) and np.array_equal(one.images, other.images)

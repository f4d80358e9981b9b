"""The checks of a behaviour or an attack: each of its hooks on ordinary and on odd inputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from fedrobust.attacks import hooks
from fedrobust.attacks.compare import same_report, same_update, to_change
from fedrobust.battery.inputs import ToyModel, a_round, deltas, records
from fedrobust.battery.outcome import DoesNotApply, Outcome, Violation, run_checks
from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.federation import Attack, Behaviour, Role, Update
from fedrobust.federation.memory import largest_memory, memories_of, pack_memories
from fedrobust.seeding import generator

__all__ = ["check_behaviour"]

#: Hospitals of a round, and how many of them attack.
_N, _M = 10, 3


def check_behaviour(make: Callable[..., Sequence[Behaviour]], file: str | None = None) -> list[Outcome]:
    """Return the outcome of every check.

    Parameters
    ----------
    make : callable
        Returns fresh behaviours of a chain, in order; keyword arguments replace options of the last one.
    file : str, optional
        The plug-in's file, to name the line that raises.
    """
    battery = _Battery(make)
    checks = [
        ("records", battery.records),
        ("one class, one image", battery.poor_records),
        ("update and report", battery.updates),
        ("received model untouched", battery.received_untouched),
        ("gradient", battery.gradient),
        ("collusion", battery.collusion),
        ("trigger", battery.trigger),
        ("zeros and huge", battery.odd_updates),
        ("determinism", battery.determinism),
        ("dose 0", battery.no_dose),
    ]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return run_checks(checks, file)


class _Battery:
    """Each method is one check of a chain of behaviours that it makes afresh."""

    def __init__(self, make: Callable[..., Sequence[Behaviour]]) -> None:
        self._make = make

    def records(self) -> None:
        """Check that grey and coloured images stay images of the same shape, their labels classes."""
        for channels in (1, 3):
            given = records(channels=channels)
            made = self._poisoned(self._chain(), given)
            if made.images.shape[1:] != given.images.shape[1:] or made.classes != given.classes:
                raise Violation(f"images of shape {given.images.shape[1:]} became {made.images.shape[1:]}")

    def poor_records(self) -> None:
        """Check that a hospital may hold one class only, or one image."""
        for labels in ([1] * 6, [0]):
            try:
                self._poisoned(self._chain(), records(labels=labels))
            except UserError as sentence:
                # A sentence to the user is an answer, too: nothing runs.
                raise DoesNotApply(f"refuses labels {labels[:3]}: {sentence}") from None

    def updates(self) -> None:
        """Check that the update that is sent is finite and of the same shape."""
        update = self._sent(self._chain())
        if not (np.isfinite(update.parameters).all() and np.isfinite(update.buffers).all()):
            raise Violation("the update holds NaN or infinite values")

    def received_untouched(self) -> None:
        """Check that the model that the hospital received is as before."""
        (given,) = a_round(deltas(1))
        base = given.global_parameters.copy()
        self._sent(self._chain())
        if not np.array_equal(given.global_parameters, base):
            raise Violation("the received model has changed")

    def gradient(self) -> None:
        """Check that what a gradient hook returns is finite and of the gradient's shape."""
        given = a_round(deltas(2))
        hooked = False
        for attack in self._bound(self._chain()):
            if isinstance(attack, Attack) and attack.hooks_gradient:
                attack.bind(honest=to_change(given[1]))
                hook = hooks.gradient_hook(attack, given.global_parameters)
                hooked = hook is not None
                if hook and not np.isfinite(hook(given[0].parameters, given[0].delta)).all():
                    raise Violation("the changed gradient holds NaN or infinite values")
        if not hooked:
            raise DoesNotApply("changes no gradient")

    def collusion(self) -> None:
        """Check that one, two or three colluders get finite updates, equal ones too."""
        if not any(isinstance(one, Attack) and one.colludes for one in self._chain()):
            raise DoesNotApply("sees its own hospital only")
        for m in (1, 2, 3):
            for differences in (deltas(_N), np.repeat(deltas(1), _N, axis=0)):
                self._collude(list(a_round(differences)), m)

    def trigger(self) -> None:
        """Check that stamped test images are of the other classes and of the same shape."""
        given = records(30)
        for attack in self._chain():
            made = attack.trigger(given) if isinstance(attack, Attack) and self._bind(attack) else None
            if made is None:
                continue
            target = np.asarray(made.target)
            if not np.isin(target, range(len(given.classes))).all() or (made.records.labels == target).any():
                raise Violation("images of the target are among those to be misled, or it is no class")
            if made.records.images.shape[1:] != given.images.shape[1:]:
                raise Violation("stamped images have another shape")
            return
        raise DoesNotApply("no backdoor")

    def odd_updates(self) -> None:
        """Check that a hospital that learnt nothing, and one whose update is a million times as long."""
        for factor in (0.0, 1e6):
            sent = self._sent(self._chain(), factor)
            if not np.isfinite(sent.parameters).all():
                raise Violation(f"an update {factor:g} times as long becomes NaN or infinite")
            members = [u.with_delta(factor * u.delta) for u in a_round(deltas(_N))]
            self._collude(members, _M)

    def determinism(self) -> None:
        """Check that the same generators give the same records, the same update and the same collusion."""
        one, two = self._chain(), self._chain()
        first, second = (self._poisoned(chain, records()) for chain in (one, two))
        if not np.array_equal(first.images, second.images) or not np.array_equal(first.labels, second.labels):
            raise Violation("two fresh objects make other records")
        if not same_update(self._sent(one), self._sent(two)):
            raise Violation("two fresh objects send other updates")
        sent = [self._collude(list(a_round(deltas(_N))), _M) for _ in range(2)]
        if not all(same_update(a, b) for a, b in zip(*sent, strict=True)):
            raise Violation("two fresh objects collude in other ways")

    def no_dose(self) -> None:
        """Check that with strength 0, or with a share of 0, the hospital is honest."""
        for option in ("strength", "share"):
            try:
                chain = self._make(**{option: 0.0})
            except UserError:
                continue
            given = records()
            made = self._poisoned(chain, given)
            (plain,) = a_round(deltas(1))
            sent = self._sent(chain)
            if not np.array_equal(made.images, given.images) or not np.array_equal(made.labels, given.labels):
                raise Violation(f"with {option}=0 the records change")
            if not (same_update(sent, plain) and same_report(sent.report, plain.report)):
                raise Violation(f"with {option}=0 the update or the report changes")
            members = list(a_round(deltas(_N)))
            if not all(map(same_update, self._collude(members, _M, chain), members)):
                raise Violation(f"with {option}=0 the colluders' updates change")
            return
        raise DoesNotApply("no option strength or share")

    def _chain(self) -> Sequence[Behaviour]:
        return self._bound(self._make())

    def _bound(self, chain: Sequence[Behaviour]) -> Sequence[Behaviour]:
        for behaviour in chain:
            self._bind(behaviour)
        return chain

    def _bind(self, behaviour: Behaviour) -> Behaviour:
        """Return the behaviour with its place in a federation and a generator as at a round's start."""
        role = Role("it", 1, _N, 0, _M, "median", (1, 4, 7))
        behaviour.bind(role=role, rng=generator(5, "battery"))
        return behaviour

    def _poisoned(self, chain: Sequence[Behaviour], given: Records) -> Records:
        made = given
        for behaviour in chain:
            self._bind(behaviour).check(given)
            own = replace(made, images=made.images.copy(), labels=made.labels.copy())
            made = hooks.transform_records(behaviour, own)
            if isinstance(behaviour, Attack) and behaviour.renews_records:
                behaviour.bind(model=ToyModel(a_round(deltas(1))[0]))
                own = replace(made, images=made.images.copy(), labels=made.labels.copy())
                made = hooks.round_records(behaviour, own)
        return made

    def _sent(self, chain: Sequence[Behaviour], factor: float = 1.0) -> Update:
        """Return what a hospital sends in round 1."""
        (honest,), (trained,) = a_round(deltas(1, seed=1)), a_round(deltas(1))
        update = trained if factor == 1 else trained.with_delta(factor * trained.delta)
        for attack in chain:
            if isinstance(attack, Attack) and hooks.is_active(attack, 1):
                self._bind(attack)
                attack.bind(
                    honest=to_change(honest) if attack.needs_honest else None,
                    model=ToyModel(update) if attack.needs_model else None,
                )
                update = hooks.poison_update(attack, to_change(update))
                report = replace(update.report, values=dict(update.report.values))
                update = replace(update, report=hooks.forge_report(attack, report))
                # What it remembers must outlast the round in another process.
                attack.bind(memory=memories_of(pack_memories({"it": attack.memory}, largest_memory(0)))["it"])
        return update

    def _collude(
        self, members: list[Update], m: int, chain: Sequence[Behaviour] | None = None
    ) -> list[Update]:
        """Return what the first m of a round's hospitals send after colluding."""
        colluders, honest = members[:m], members[m:]
        for attack in self._chain() if chain is None else self._bound(chain):
            if isinstance(attack, Attack) and attack.colludes:
                colluders = hooks.collude(attack, colluders, honest if attack.knowledge == "all" else [])
        if not all(np.isfinite(u.parameters).all() for u in colluders):
            raise Violation(f"{m} colluders send NaN or infinite values")
        return colluders

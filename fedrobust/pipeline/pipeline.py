"""A defence with the steps around it: what turns a round's updates into the next global model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from fedrobust.errors import UserError
from fedrobust.federation import Defence, Model, PreAggregation, Repair, Updates, Vector, Verdict
from fedrobust.federation.mixed import Mixed
from fedrobust.pipeline.no_effect import NoEffectMonitor
from fedrobust.pipeline.server_optimiser import ServerOptimiser
from fedrobust.plugins import reraise_as_user_error

__all__ = ["Pipeline"]


@dataclass(frozen=True)
class Pipeline:
    """A defence with the steps before it and the repairs after it, in order.

    Attributes
    ----------
    defence : Defence
    steps : tuple of PreAggregation
    names : tuple of str
        The steps', the defence's and the repairs', for messages; not given: their classes'.
    optimiser : ServerOptimiser or None
        Moves the model towards what the defence returns; None: that is the next model.
    repairs : tuple of Repair
        Each works on the model that the one before it returned.
    """

    defence: Defence
    steps: tuple[PreAggregation, ...] = ()
    names: tuple[str, ...] = ()
    optimiser: ServerOptimiser | None = None
    repairs: tuple[Repair, ...] = ()

    def __post_init__(self) -> None:
        """Name the parts after their classes where no names are given."""
        if not self.names:
            object.__setattr__(self, "names", tuple(map(_called, self._written)))

    @property
    def _written(self) -> tuple[PreAggregation | Defence | Repair, ...]:
        return (*self.steps, self.defence, *self.repairs)

    @property
    def monitored_names(self) -> tuple[str, ...]:
        """Return the names of the steps and, last, of the defence."""
        return self.names[: len(self.steps) + 1]

    @property
    def with_images(self) -> tuple[Defence | Repair, ...]:
        """Return the parts that see images of the server's own."""
        parts: tuple[Defence | Repair, ...] = (self.defence, *self.repairs)
        return tuple(part for part in parts if part.server_share)

    @property
    def parts(self) -> tuple[PreAggregation | Defence | ServerOptimiser | Repair, ...]:
        """Return whatever may keep something between rounds, in order."""
        last = () if self.optimiser is None else (self.optimiser,)
        return (*self.steps, self.defence, *last, *self.repairs)

    def check(self, hospitals: int, asked: int | None = None) -> None:
        """Raise `UserError` if the options of a step or of the defence do not fit so many hospitals.

        Where a round asks fewer, their number counts, but for an oracle, whose options name hospitals.
        """
        federation, hospitals = hospitals, hospitals if asked is None else asked
        for step in self.steps:
            with reraise_as_user_error(f"{_called(step)}: check fails"):
                left = step.check(hospitals)
            # One that returns None leaves them all.
            hospitals = hospitals if left is None else left
        with reraise_as_user_error(f"{_called(self.defence)}: check fails"):
            self.defence.check(federation if self.defence.oracle else hospitals)

    def aggregate(
        self, given: Updates, monitor: NoEffectMonitor | None = None
    ) -> tuple[Vector, Vector, Verdict]:
        """Return the next parameters and running statistics, and the verdict on the given updates' hospitals.

        The monitor, if given, records what each part did.
        """
        updates = given
        for place, step in enumerate(self.steps):
            before, updates = updates, _transformed(step, updates)
            if monitor is not None:
                monitor.record_step(place, before, updates)
        parameters, verdict = _combined(self.defence, updates)
        if monitor is not None:
            monitor.record_defence(self.defence, updates, parameters, verdict)
        if self.optimiser is not None:
            parameters = self.optimiser.step(given[0].global_parameters, parameters)
        traced = updates.trace(verdict).checked(len(given))
        begun = given[0]
        model = Model(parameters, self._buffers(given, traced), given.round, begun.layout, given.seed)
        own = () if type(self.defence).repair is Defence.repair else (self.defence,)
        for part in (*own, *self.repairs):
            model = _checked(part, "repair", part.repair(model), model)
        return model.parameters, model.buffers, traced

    def before_round(self, model: Model) -> Model:
        """Return the model that the round sends: the given one, unless the defence changes it."""
        if type(self.defence).before_round is Defence.before_round:
            return model
        return _checked(self.defence, "before_round", self.defence.before_round(model), model)

    def _buffers(self, given: Updates, traced: Verdict) -> Vector:
        weight = cast("np.ndarray[Any, Any]", traced.weight)
        if not weight.any():
            return cast(Vector, given[0].global_buffers)
        # The hospitals' own: a step that mixes updates ignores these, and would mix a forged one into all.
        own = self.defence.combine_buffers(given) if len(given[0].buffers) else None
        if own is None:
            return given.mean_buffers(weight)
        return cast(Vector, np.asarray(own, np.float32))


def _called(part: object) -> str:
    return type(part).__name__


def _transformed(step: PreAggregation, updates: Updates) -> Updates:
    """Return what a step makes of the updates; `UserError` if it is not what a step must return."""
    made = step.transform(updates)
    if not isinstance(made, Updates):
        raise UserError(f"{_called(step)}: transform must return Updates, not {_called(made)}")
    if made.nodes != updates.nodes and not isinstance(made, Mixed):
        raise UserError(
            f"{_called(step)}: transform returned the updates of the hospitals {list(made.nodes)} "
            f"for those of {list(updates.nodes)}; it must return one for each, or a "
            f"fedrobust.federation.mixed.Mixed"
        )
    return made


def _combined(defence: Defence, updates: Updates) -> tuple[Vector, Verdict]:
    """Return what a defence makes of the updates; `UserError` if it is not what a defence must return."""
    made = defence.combine(updates)
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], Verdict)):
        raise UserError(f"{_called(defence)}: combine must return the new parameters and a Verdict")
    parameters = np.asarray(made[0])
    if parameters.shape != (updates.dimension,) or parameters.dtype.kind not in "iuf":
        raise UserError(
            f"{_called(defence)}: combine returned parameters of shape {parameters.shape} and type "
            f"{parameters.dtype}, but the model has {updates.dimension} real numbers"
        )
    return parameters.astype(np.float32, copy=False), made[1]


def _checked(part: object, method: str, made: object, given: Model) -> Model:
    """Return the model that a part made; `UserError` if it is none of the same shape."""
    if not isinstance(made, Model):
        raise UserError(f"{_called(part)}: {method} must return a Model, not {_called(made)}")
    shapes = [(np.shape(m.parameters), np.shape(m.buffers)) for m in (made, given)]
    if shapes[0] != shapes[1]:
        raise UserError(f"{_called(part)}: {method} returned arrays of shapes {shapes[0]}, not {shapes[1]}")
    parameters, buffers = (np.asarray(values, np.float32) for values in (made.parameters, made.buffers))
    return replace(given, parameters=parameters, buffers=buffers)

"""A defence with the steps before it: what turns a round's updates into the next global model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from fedrobust.errors import UserError
from fedrobust.federation import Defence, PreAggregation, Updates, Vector, Verdict
from fedrobust.federation.mixed import Mixed
from fedrobust.pipeline.no_effect import NoEffectMonitor
from fedrobust.pipeline.server_optimiser import ServerOptimiser
from fedrobust.plugins import reraise_as_user_error

__all__ = ["Pipeline"]


@dataclass(frozen=True)
class Pipeline:
    """A defence with the steps before it, in order.

    Attributes
    ----------
    defence : Defence
    steps : tuple of PreAggregation
    names : tuple of str
        The steps' and, last, the defence's, for messages; not given: their classes'.
    optimiser : ServerOptimiser or None
        Moves the model towards what the defence returns; None: that is the next model.
    """

    defence: Defence
    steps: tuple[PreAggregation, ...] = ()
    names: tuple[str, ...] = ()
    optimiser: ServerOptimiser | None = None

    def __post_init__(self) -> None:
        """Name the parts after their classes where no names are given."""
        if not self.names:
            object.__setattr__(self, "names", tuple(_called(part) for part in (*self.steps, self.defence)))

    @property
    def parts(self) -> tuple[PreAggregation | Defence | ServerOptimiser, ...]:
        """Return whatever may keep something between rounds, in order."""
        last = () if self.optimiser is None else (self.optimiser,)
        return (*self.steps, self.defence, *last)

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
        return parameters, self._buffers(given, traced), traced

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

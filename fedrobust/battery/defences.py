"""The checks of a strategy: a defence with any steps around it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrobust.battery.inputs import ToyServer, a_round, deltas, make_report
from fedrobust.battery.outcome import DoesNotApply, Outcome, Violation, run_checks
from fedrobust.federation import Model, Updates, Verdict
from fedrobust.pipeline.pipeline import Pipeline
from fedrobust.results.state import state_from_json, state_to_json

__all__ = ["check_strategy"]

Floats = NDArray[np.float64]

#: Hospitals of a round: as many as the papers' usual examples, and enough for Bulyan with f = 1.
_N = 10
#: Differences up to this share of the longest vector are rounding.
_ROUNDING = 1e-4
#: How much longer than the others the huge update is.
_HUGE = 1e6


@dataclass(frozen=True)
class _Result:
    """What a pipeline made of a round."""

    parameters: NDArray[np.float32]
    buffers: NDArray[np.float32]
    verdict: Verdict

    def same_bits(self, other: _Result) -> bool:
        """Return whether both are the same to the bit."""
        pairs = (
            (self.parameters, other.parameters),
            (self.buffers, other.buffers),
            (self.verdict.weight, other.verdict.weight),
            (self.verdict.score, other.verdict.score),
        )
        return all(np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True) for a, b in pairs)


def check_strategy(make: Callable[[], Pipeline], file: str | None = None) -> list[Outcome]:
    """Return the outcome of every check.

    Parameters
    ----------
    make : callable
        Returns a fresh pipeline.
    file : str, optional
        The plug-in's file, to name the line that raises.
    """
    battery = _Battery(make)
    checks = [
        ("ordinary round", battery.ordinary),
        ("inputs untouched", battery.inputs_untouched),
        ("determinism", battery.determinism),
        ("permutation", battery.permutation),
        ("few replies", battery.few_replies),
        ("changing replies", battery.changing_replies),
        ("ties", battery.ties),
        ("zeros", battery.zeros),
        ("huge", battery.huge),
        ("NaN reports", battery.nan_reports),
        ("state round trip", battery.state_round_trip),
    ]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return run_checks(checks, file)


class _Battery:
    """Each method is one check of a pipeline that it makes afresh."""

    def __init__(self, make: Callable[[], Pipeline]) -> None:
        self._make = make

    def ordinary(self) -> None:
        """Check that ten different updates give finite parameters and a verdict."""
        self._ran(a_round(deltas(_N)))

    def inputs_untouched(self) -> None:
        """Check that the hospitals' arrays are as before."""
        updates = a_round(deltas(_N))
        before = [(u.parameters.copy(), u.buffers.copy(), dict(u.report.values)) for u in updates]
        self._ran(updates)
        for update, (parameters, buffers, values) in zip(updates, before, strict=True):
            same = np.array_equal(update.parameters, parameters) and np.array_equal(update.buffers, buffers)
            if not same or dict(update.report.values) != values:
                raise Violation(f"the update of hospital {update.node} has changed")

    def determinism(self) -> None:
        """Check that the same round gives the same bits."""
        one, two = (self._ran(a_round(deltas(_N))) for _ in range(2))
        if not one.same_bits(two):
            raise Violation("two fresh objects give other bits for the same round")

    def permutation(self) -> None:
        """Check that the same hospitals under other numbers give the same model and the same weights."""
        if any(getattr(part, "ties_by_number", False) for part in self._make().parts):
            raise DoesNotApply("equal scores are decided by the hospitals' numbers")
        plain = self._ran(a_round(deltas(_N)))
        if not _close(plain.parameters, self._ran(a_round(deltas(_N), seed=1)).parameters):
            raise DoesNotApply("draws by the hospitals' numbers")
        order = np.random.default_rng(4).permutation(_N)
        moved = self._ran(a_round(deltas(_N), nodes=order.tolist()))
        if not _close(plain.parameters, moved.parameters):
            raise Violation("the same updates under other hospitals' numbers give another model")
        weights = np.asarray(moved.verdict.weight)[order], np.asarray(plain.verdict.weight)
        shares = [weight / (weight.sum() or 1) for weight in weights]
        if not np.allclose(shares[0], shares[1], rtol=0, atol=1e-4):
            raise Violation("a hospital's weight depends on its number")

    def few_replies(self) -> None:
        """Check that one, two or three of the ten reply."""
        for n in (1, 2, 3):
            with _saying(f"with {n} of {_N} replies"):
                self._ran(a_round(deltas(n)))

    def changing_replies(self) -> None:
        """Check that other hospitals reply in each of three rounds."""
        pipeline = self._pipeline()
        for number, nodes in enumerate(([0, 1, 2, 3, 4], [0, 2, 4, 6, 8, 9], [1, 2]), start=1):
            updates = a_round(deltas(len(nodes), number), nodes=nodes, round=number)
            with _saying(f"with the replies of hospitals {nodes} in round {number}"):
                _result(pipeline, updates)

    def ties(self) -> None:
        """Check that equal updates with equal reports get equal scores."""
        same = np.repeat(deltas(1), _N, axis=0)
        score = self._ran(a_round(same, reports=[make_report()] * _N, kinds=[0] * _N)).verdict.score
        known = np.asarray(score)[~np.isnan(np.asarray(score))]
        if len(known) and float(np.ptp(known)) > 1e-6 * max(1.0, float(np.abs(known).max())):
            raise Violation(f"equal updates get scores from {known.min():g} to {known.max():g}")
        pairs = np.repeat(deltas(_N // 2), 2, axis=0)
        kinds = [place // 2 for place in range(_N)]
        self._ran(a_round(pairs, reports=[make_report(kind) for kind in kinds], kinds=kinds))

    def zeros(self) -> None:
        """Check that hospitals that learnt nothing give the global model back; one of ten does no harm."""
        still = a_round(np.zeros_like(deltas(_N)))
        moved = self._ran(still).parameters - still.global_parameters
        if self._made_of_updates() and float(np.abs(moved).max()) > 1e-5:
            raise Violation("the model moves although no hospital's update does")
        one = deltas(_N)
        one[3] = 0
        self._ran(a_round(one))

    def huge(self) -> str:
        """Check that one update a million times as long gives a finite model; says how far it moves it."""
        plain = deltas(_N)
        moved = plain.copy()
        moved[3] *= _HUGE
        others = np.delete(plain, 3, axis=0).mean(axis=0)
        updates = a_round(moved)
        away = self._ran(updates).parameters - updates.global_parameters - others
        return f"moves the model {np.linalg.norm(away) / np.linalg.norm(others):.2g} honest lengths"

    def nan_reports(self) -> None:
        """Check that a hospital that reports NaN, or nothing at all, does not spoil the model."""
        for report in (make_report(3, float("nan")), type(make_report())(0)):
            reports = [make_report(i) for i in range(_N)]
            reports[3] = report
            self._ran(a_round(deltas(_N), reports=reports))

    def state_round_trip(self) -> None:
        """Check that what a checkpoint carries is enough: the third round has the same bits."""
        pipeline, resumed = self._pipeline(), self._pipeline()
        for number in (1, 2):
            _result(pipeline, a_round(deltas(_N, number), round=number))
        for one, other in zip(pipeline.parts, resumed.parts, strict=True):
            other.load_state(state_from_json(state_to_json(one.state(), type(one).__name__)))
        third = [a_round(deltas(_N, 3), round=3) for _ in range(2)]
        if not _result(pipeline, third[0]).same_bits(_result(resumed, third[1])):
            raise Violation("round 3 has other bits after state() and load_state()")

    def _pipeline(self) -> Pipeline:
        pipeline = self._make()
        for part in pipeline.with_images:
            part.server = ToyServer()
        pipeline.check(_N)
        return pipeline

    def _made_of_updates(self) -> bool:
        """Return whether the model is made of the updates alone, not with images of the server's own."""
        return not self._make().with_images

    def _ran(self, updates: Updates) -> _Result:
        return _result(self._pipeline(), updates)


class _saying:
    """Adds to what a check raises which input it was."""

    def __init__(self, words: str) -> None:
        self._words = words

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise with the words."""
        if isinstance(error, Violation):
            raise Violation(f"{self._words}: {error}") from error
        if isinstance(error, Exception):
            error.args = (f"{error} ({self._words})",)


def _result(pipeline: Pipeline, updates: Updates) -> _Result:
    """Return what a pipeline makes of a round; `Violation` where that is not finite."""
    first = updates[0]
    start = Model(first.global_parameters, first.global_buffers, first.round, first.layout, updates.seed)
    pipeline.before_round(start)
    parameters, buffers, verdict = pipeline.aggregate(updates)
    for name, values in (("parameters", parameters), ("running statistics", buffers)):
        if not np.isfinite(values).all():
            raise Violation(f"the new {name} hold NaN or infinite values")
    return _Result(parameters, buffers, verdict)


def _close(one: Sequence[float] | NDArray[Any], other: Sequence[float] | NDArray[Any]) -> bool:
    first, second = np.asarray(one, np.float64), np.asarray(other, np.float64)
    return bool(np.abs(first - second).max() <= _ROUNDING * max(1.0, float(np.abs(first).max())))

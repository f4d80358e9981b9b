"""Which parts of a pipeline had no effect: options may leave no more than the plain mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrobust.federation import Defence, Updates, Vector, Verdict
from fedrobust.federation.mixed import Mixed

__all__ = ["ROUNDING", "NoEffectMonitor"]

Floats = NDArray[np.float64]

#: Differences up to this share of a vector's length are rounding.
ROUNDING = 1e-6


class NoEffectMonitor:
    """Knows which parts of a pipeline had no effect so far.

    A step had no effect if it returned the updates that it got; a defence, if the new parameters are the
    plain mean of the updates that it got, with equal weights or weighted by the reported numbers of images. A
    part is compared until it has had an effect once: in most runs that takes one comparison of one chunk of
    the updates.

    Parameters
    ----------
    names : sequence of str
        The steps and, last, the defence, as the specification writes them.
    defence : Defence
        One that is the plain mean by definition is not monitored.
    """

    def __init__(self, names: Sequence[str], defence: Defence) -> None:
        """Monitor all parts."""
        twice = len(set(names)) < len(names)
        self.names = tuple(f"{name} (part {i})" if twice else name for i, name in enumerate(names, start=1))
        monitored = self.names[:-1] if defence.plain_mean else self.names
        self._no_effect = dict.fromkeys(monitored)

    @property
    def no_effect(self) -> list[str]:
        """Return the parts that had no effect so far, in order."""
        return list(self._no_effect)

    def resume(self, no_effect: Sequence[str]) -> None:
        """Monitor only those that had no effect when an interrupted run stopped."""
        self._no_effect = {name: None for name in self._no_effect if name in no_effect}

    def record_step(self, place: int, before: Updates, after: Updates) -> None:
        """Compare a round's updates before and after the step at a place of the pipeline."""
        if self.names[place] in self._no_effect and not _same(before, after):
            del self._no_effect[self.names[place]]

    def record_defence(
        self, defence: Defence, updates: Updates, parameters: Vector, verdict: Verdict
    ) -> None:
        """Compare the defence's result and verdict with the plain mean of the updates that it got."""
        if self.names[-1] in self._no_effect and not _is_mean(defence, updates, parameters, verdict):
            del self._no_effect[self.names[-1]]

    def messages(self, malicious: int) -> list[str]:
        """Return a message for the user, at a run's end, on each part that had no effect."""
        nobody = "" if malicious else ", as can happen where nobody is malicious"
        did = {name: ("step", "it returned each round's updates as they were") for name in self.names[:-1]}
        did[self.names[-1]] = ("strategy", "each round's model was the plain mean")
        return [
            f"{did[name][0]} '{name}' had no effect in this run: {did[name][1]}{nobody}"
            for name in self._no_effect
        ]


def _is_mean(defence: Defence, updates: Updates, parameters: Vector, verdict: Verdict) -> bool:
    images = updates.num_examples
    weights = [np.ones(len(updates)), *([images] if images.any() else [])]
    shares = np.stack([weight / weight.sum() for weight in weights])
    if type(defence).combine is Defence.combine:
        # The parameters are the mean with these weights and need not be compared.
        weight = np.asarray(verdict.weight, np.float64)
        share = weight / (weight.sum() or 1.0)
        return any(np.allclose(share, plain, rtol=ROUNDING, atol=0) for plain in shares)
    bound = (ROUNDING * float(np.linalg.norm(parameters))) ** 2

    def difference(part: slice) -> Floats:
        plain = np.dot(shares, updates.block(part, absolute=True).astype(np.float64))
        return np.asarray(plain - parameters[part])

    squares = _squares(updates, difference, lambda found: bool((found > bound).all()))
    return bool((squares <= bound).any())


def _same(before: Updates, after: Updates) -> bool:
    if after is before:
        return True
    if isinstance(after, Mixed) and after.is_of(before):
        return after.leaves_all
    if after.nodes != before.nodes:
        return False
    lengths = float(np.linalg.norm(before.global_parameters)) ** 2 + before.norms() ** 2
    bound = ROUNDING**2 * lengths

    def difference(part: slice) -> Floats:
        return after.block(part, absolute=True).astype(np.float64) - before.block(part, absolute=True)

    squares = _squares(before, difference, lambda found: bool((found > bound).any()))
    return bool((squares <= bound).all()) and all(
        old.report == new.report and np.array_equal(old.buffers, new.buffers)
        for old, new in zip(before, after, strict=True)
    )


def _squares(
    updates: Updates, difference: Callable[[slice], Floats], enough: Callable[[Floats], bool]
) -> Any:
    """Return the squared lengths of the rows of differences; of few parts if they are enough."""
    decided: list[bool] = []

    def work(part: slice) -> Floats | float:
        if decided:
            return 0.0
        rows = difference(part)
        found = np.einsum("ij,ij->i", rows, rows)
        if enough(found):
            decided.append(True)
        return np.asarray(found)

    return np.sum(np.broadcast_arrays(*updates.by_part(work)), axis=0)

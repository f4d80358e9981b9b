"""Which steps and which defence of a pipeline change nothing: an option may leave no more than the plain mean."""

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
    """Notes which parts of a pipeline have changed nothing so far.

    A step changed nothing if it returned the updates that it got; a defence, if the new parameters are the plain mean of
    the updates that it got, with equal weights or weighted by claimed images. A part is compared until it has changed
    something once: in most runs that is one look at one chunk of the updates.

    Parameters
    ----------
    names : sequence of str
        The steps and, last, the defence, as the specification writes them.
    defence : Defence
        One that is the plain mean by definition is not watched.
    """

    def __init__(self, names: Sequence[str], defence: Defence) -> None:
        """Monitor all parts."""
        twice = len(set(names)) < len(names)
        self.names = tuple(f"{name} (part {i})" if twice else name for i, name in enumerate(names, start=1))
        watched = self.names[:-1] if defence.plain_mean else self.names
        self._idle = dict.fromkeys(watched)

    @property
    def idle(self) -> list[str]:
        """Return the parts that have changed nothing so far, in order."""
        return list(self._idle)

    def go_on(self, idle: Sequence[str]) -> None:
        """Monitor only those that had changed nothing when an interrupted run stopped."""
        self._idle = {name: None for name in self._idle if name in idle}

    def step(self, place: int, before: Updates, after: Updates) -> None:
        """Look at what the step at a place of the pipeline made of a round's updates."""
        if self.names[place] in self._idle and not _same(before, after):
            del self._idle[self.names[place]]

    def rule(self, defence: Defence, updates: Updates, parameters: Vector, verdict: Verdict) -> None:
        """Look at what the defence made of the updates that it got: the new parameters, and its verdict on those."""
        if self.names[-1] in self._idle and not _is_mean(defence, updates, parameters, verdict):
            del self._idle[self.names[-1]]

    def sentences(self, malicious: int) -> list[str]:
        """Return what to tell the user, at a run's end, of each part that changed nothing."""
        nobody = "" if malicious else ", as it may where nobody is malicious"
        did = {name: ("step", "it returned each round's updates as they were") for name in self.names[:-1]}
        did[self.names[-1]] = ("strategy", "each round's model was the plain mean")
        return [
            f"{did[name][0]} '{name}' changed nothing in this run: {did[name][1]}{nobody}"
            for name in self._idle
        ]


def _is_mean(defence: Defence, updates: Updates, parameters: Vector, verdict: Verdict) -> bool:
    claims = updates.num_examples
    weights = [np.ones(len(updates)), *([claims] if claims.any() else [])]
    shares = np.stack([weight / weight.sum() for weight in weights])
    if type(defence).combine is Defence.combine:
        # The parameters are the mean with these weights; there is no need to look at them.
        weight = np.asarray(verdict.weight, np.float64)
        share = weight / (weight.sum() or 1.0)
        return any(np.allclose(share, plain, rtol=ROUNDING, atol=0) for plain in shares)
    bound = (ROUNDING * float(np.linalg.norm(parameters))) ** 2

    def apart(part: slice) -> Floats:
        plain = np.dot(shares, updates.block(part, whole=True).astype(np.float64))
        return np.asarray(plain - parameters[part])

    squares = _squares(updates, apart, lambda found: bool((found > bound).all()))
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

    def apart(part: slice) -> Floats:
        return after.block(part, whole=True).astype(np.float64) - before.block(part, whole=True)

    squares = _squares(before, apart, lambda found: bool((found > bound).any()))
    return bool((squares <= bound).all()) and all(
        old.report == new.report and np.array_equal(old.buffers, new.buffers)
        for old, new in zip(before, after, strict=True)
    )


def _squares(updates: Updates, apart: Callable[[slice], Floats], enough: Callable[[Floats], bool]) -> Any:
    """Return the squared lengths of the rows of differences; of a few parts only, once one of them says enough."""
    decided: list[bool] = []

    def work(part: slice) -> Floats | float:
        if decided:
            return 0.0
        rows = apart(part)
        found = np.einsum("ij,ij->i", rows, rows)
        if enough(found):
            decided.append(True)
        return np.asarray(found)

    return np.sum(np.broadcast_arrays(*updates.by_part(work)), axis=0)

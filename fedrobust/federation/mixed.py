"""Updates that are mixtures of others, held as a small matrix instead of new vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedrobust.federation import ClientMetrics, Update, Updates, Vector, Verdict

__all__ = ["Mixed"]


class Mixed(Updates):
    """Updates whose differences are a matrix times those of others: sum_j mixing[i, j] delta_j.

    Nothing of length d is stored: blocks are mixed when they are read, and inner products follow from the
    source's. Indexing makes one whole update at a time.

    Parameters
    ----------
    source : Updates
        May be mixed itself; the matrices are then multiplied.
    mixing : array_like, shape (m, n)
        Not negative. A row that sums to less than 1 is pulled towards the global parameters.
    members : sequence of sequence of int, optional
        The source's updates behind each of the m, if they are not the same hospitals. A mixed update takes
        the lowest number among them, the sum of their reported images, and the mean of their other reported
        metrics.
    """

    def __init__(
        self, source: Updates, mixing: ArrayLike, members: Sequence[Sequence[int]] | None = None
    ) -> None:
        """Keep the matrix."""
        n = len(source)
        groups = [(place,) for place in range(n)] if members is None else [tuple(group) for group in members]
        matrix = np.asarray(mixing, np.float64)
        if matrix.shape != (len(groups), n) or not np.isfinite(matrix).all() or (matrix < 0).any():
            raise ValueError(f"mixing needs {len(groups)} x {n} finite numbers that are not negative")
        order = sorted(range(len(groups)), key=lambda row: min(groups[row]))
        super().__init__([_head(source, groups[row]) for row in order], source.seed)
        self._members = [groups[row] for row in order]
        self._given, self._step = source, matrix[order]
        # A chain of mixtures is one matrix on the updates at its start.
        self._source: Updates = source._source if isinstance(source, Mixed) else source
        self.mixing: NDArray[np.float64] = (
            self._step @ source.mixing if isinstance(source, Mixed) else self._step
        )

    def is_of(self, source: Updates) -> bool:
        """Return whether these updates were mixed from exactly those."""
        return self._given is source

    @property
    def leaves_all(self) -> bool:
        """Return whether the mixtures equal their source: whether the matrix is the identity."""
        step = self._step
        return step.shape[0] == step.shape[1] and np.allclose(step, np.eye(len(step)), rtol=0, atol=1e-6)

    def __getitem__(self, index: Any) -> Any:
        """Return one update, made now, or a tuple of updates for a slice."""
        if isinstance(index, slice):
            return tuple(self[place] for place in range(*index.indices(len(self))))
        head, row = self._updates[index], self.mixing[index]
        return replace(head, parameters=self._source.combination(row), buffers=self._mean_of_buffers(row))

    def block(self, part: slice, *, absolute: bool = False) -> Vector:
        """Return a fresh block of the mixed differences, or of the parameters."""
        mixed = np.dot(self.mixing.astype(np.float32), self._source.block(part))
        return np.add(mixed, self.global_parameters[part], out=mixed) if absolute else mixed

    def rows(self, part: slice) -> Iterator[NDArray[np.float64]]:
        """Yield each row of a mixed block in float64."""
        yield from self.block(part).astype(np.float64)

    def take(self, columns: NDArray[np.int64]) -> Vector:
        """Return the mixed differences at some coordinates."""
        return np.asarray(self.mixing.astype(np.float32) @ self._source.take(columns))

    def gram(self) -> NDArray[np.float64]:
        """Return the inner products of the mixed differences, from the source's."""
        return self.mixing @ self._source.gram() @ self.mixing.T

    def norms(self) -> NDArray[np.float64]:
        """Return the L2 norms of the mixed differences."""
        return np.sqrt(np.maximum(np.diagonal(self.gram()), 0.0))

    def mean(self, weight: ArrayLike) -> Vector:
        """Return the weighted mean of the mixed parameters."""
        share = np.asarray(weight, np.float64)
        return self.combination(share / share.sum())

    def combination(self, coefficients: ArrayLike) -> Vector:
        """Return the global parameters plus a combination of the mixed differences."""
        return self._source.combination(np.asarray(coefficients, np.float64) @ self.mixing)

    def mean_buffers(self, weight: ArrayLike) -> Vector:
        """Return the mean of the source's buffers, each with its part in the weighted mean."""
        return self._mean_of_buffers(np.asarray(weight, np.float64) @ self.mixing)

    def trace(self, verdict: Verdict) -> Verdict:
        """Return the verdict on the source's hospitals: each one's weight is its part in the aggregate.

        Where the mixed updates are of the same hospitals, scores, flags and reasons stay; a hospital that
        shares a mixed update with others gets that update's.
        """
        known = verdict.checked(len(self))
        n = len(self._given)
        weight = np.asarray(known.weight) @ self._step
        score, flagged, why = np.full(n, np.nan), np.zeros(n, bool), [""] * n
        for row, members in enumerate(self._members):
            for place in members:
                score[place] = np.asarray(known.score)[row]
                flagged[place] = np.asarray(known.flagged)[row]
                why[place] = (known.why or [""] * len(self))[row]
        return self._given.trace(Verdict(weight, score, flagged, why))

    def _mean_of_buffers(self, row: NDArray[np.float64]) -> Vector:
        # A row of zeros means the global model, and no update has its buffers: the weights are uniform then.
        return self._source.mean_buffers(row if row.any() else np.ones(len(row)))


def _head(source: Updates, group: Sequence[int]) -> Update:
    # Only number, report and round are read from a head; its vectors are shared with all.
    members = [source._updates[place] for place in group]
    first = min(members, key=lambda update: update.node)
    report = first.report if len(members) == 1 else _merged([update.report for update in members])
    base = source.global_parameters
    return replace(first, parameters=base, report=report, buffers=np.zeros(0, np.float32))


def _merged(reports: Sequence[ClientMetrics]) -> ClientMetrics:
    values: dict[str, float | tuple[float, ...]] = {}
    for name in reports[0].values:
        given = [np.asarray(report.values[name]) for report in reports if name in report.values]
        if len(given) == len(reports) and len({each.shape for each in given}) == 1:
            mean = np.mean(given, axis=0)
            values[name] = tuple(mean.tolist()) if mean.ndim else float(mean)
    return ClientMetrics(sum(report.num_examples for report in reports), values)

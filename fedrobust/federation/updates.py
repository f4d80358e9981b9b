"""What attacks and defences work on: one hospital's reply, a round's replies, a verdict on them.

`fedrobust.federation` exports these names with the others. Vectors are flat float32; sums over them are taken
in float64, a cache-sized chunk at a time, so that no rule needs an n x d copy of all updates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedrobust.federation.blocks import each_part
from fedrobust.federation.layout import Layer, Layout
from fedrobust.federation.verdict import Verdict

__all__ = ["ClientMetrics", "Update", "Updates", "Vector", "Verdict"]

Vector = NDArray[np.float32]

#: Columns per chunk: n rows of 64 Ki float32 stay within the cache for the usual n, and each call is long
#: enough for two threads to overlap.
CHUNK = 1 << 16
#: Columns where one row at a time is in use: fewer, longer calls.
ROWS = 1 << 17

#: From this coefficient on a combination is summed from the differences.
LARGE = 1e3


@dataclass(frozen=True)
class ClientMetrics:
    """What a hospital reports of its own training. Nothing here is verified.

    Attributes
    ----------
    num_examples : int
        Images it reports to have trained on.
    values : mapping of str to float or tuple of float
        Reported numbers. The built-in learner reports ``loss`` (mean over its last local epoch),
        ``last-loss`` (its last mini-batch), ``received-loss`` (the received model on its own records, before
        training), and by class (NaN for a class it does not hold) ``class-counts``, ``class-losses`` (the
        received model's) and ``class-epoch-losses`` (in the last local epoch, before each step).
    """

    num_examples: int
    values: Mapping[str, float | tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Update:
    """One hospital's reply in one round.

    Attributes
    ----------
    node : int
        The hospital's number (its partition id), the same in every round.
    parameters : ndarray of float32, shape (d,)
        Trainable parameters after local training, flat, in the model's order.
    report : ClientMetrics
        What the hospital reports.
    global_parameters : ndarray of float32, shape (d,)
        The parameters that it started from.
    buffers : ndarray of float32, shape (b,)
        Running statistics. They never enter a distance and never hold integer counters.
    round : int
        Counted from 1.
    global_buffers : ndarray of float32, shape (b,) or (0,)
        The running statistics that it started from. They are not sent back: the server adds its own.
    layout : Layout or None
        Where the model's layers lie in these vectors; None where that is unknown.
    """

    node: int
    parameters: Vector
    report: ClientMetrics
    global_parameters: Vector
    buffers: Vector = field(default_factory=lambda: np.zeros(0, np.float32))
    round: int = 1
    global_buffers: Vector = field(default_factory=lambda: np.zeros(0, np.float32))
    layout: Layout | None = None

    @property
    def delta(self) -> Vector:
        """Return the difference from the global parameters, shape (d,)."""
        return self.parameters - self.global_parameters

    def with_delta(self, delta: ArrayLike) -> Update:
        """Return this update with another difference from the global parameters."""
        moved = self.global_parameters + np.asarray(delta, dtype=np.float32)
        return replace(self, parameters=moved.astype(np.float32, copy=False))


class Updates(Sequence[Update]):
    """The valid replies of one round, ordered by hospital.

    Parameters
    ----------
    updates : sequence of Update
        In any order; two of the same node are an error.
    seed : int, optional
        For rules that draw (see `fedrobust.seeding.generator`).

    Raises
    ------
    ValueError
        If there is no update, two are of one node, or their shapes differ.
    """

    def __init__(self, updates: Sequence[Update], seed: int = 0) -> None:
        """Order and check the updates."""
        self._updates = tuple(sorted(updates, key=lambda update: update.node))
        self.seed = seed
        if not self._updates:
            raise ValueError("a round needs at least one update")
        if len({update.node for update in self._updates}) != len(self._updates):
            raise ValueError(f"two updates are of one hospital: {[update.node for update in self._updates]}")
        if len({(u.parameters.shape, u.buffers.shape) for u in self._updates}) != 1:
            raise ValueError("updates of one round must have the same shape")

    def __getitem__(self, index: Any) -> Any:
        """Return one update, or a tuple of updates for a slice."""
        return self._updates[index]

    def __len__(self) -> int:
        """Return how many hospitals replied."""
        return len(self._updates)

    @property
    def nodes(self) -> tuple[int, ...]:
        """Return the hospitals' numbers, ascending."""
        return tuple(update.node for update in self._updates)

    @property
    def round(self) -> int:
        """Return the round, counted from 1."""
        return self._updates[0].round

    @property
    def global_parameters(self) -> Vector:
        """Return the parameters that every hospital started from, shape (d,)."""
        return self._updates[0].global_parameters

    @property
    def global_buffers(self) -> Vector:
        """Return the running statistics that every hospital started from, shape (b,); (0,) if unknown."""
        return self._updates[0].global_buffers

    @property
    def num_examples(self) -> NDArray[np.float64]:
        """Return the reported numbers of training images, shape (n,)."""
        return np.array([update.report.num_examples for update in self._updates], dtype=np.float64)

    @property
    def layout(self) -> Layout:
        """Return where the layers lie; one layer covers each vector where that is unknown."""
        known = self._updates[0].layout
        return known or Layout.whole(self.dimension, len(self._updates[0].buffers))

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Return the layers of the trainable parameters; `block` of a layer's `part` are its differences."""
        return self.layout.parameters

    def reported(self, name: str) -> NDArray[np.float64]:
        """Return one reported value of each hospital, shape (n,) or (n, K).

        NaN where a hospital gave none, or one of another length than most: no hospital's report affects the
        others'.
        """
        given = {
            place: np.asarray(update.report.values[name], np.float64)
            for place, update in enumerate(self._updates)
            if name in update.report.values
        }
        shapes = Counter(column.shape for column in given.values())
        table = np.full((len(self), *(shapes.most_common(1)[0][0] if shapes else ())), np.nan)
        for place, column in given.items():
            if column.shape == table.shape[1:]:
                table[place] = column
        return table

    def deltas(self, chunk: int = CHUNK) -> Iterator[tuple[slice, Vector]]:
        """Yield blocks of the differences from the global parameters.

        Parameters
        ----------
        chunk : int
            Columns per block.

        Yields
        ------
        slice
            Which of the d columns the block covers.
        ndarray of float32, shape (n, columns)
            A fresh block that the caller may change.
        """
        for start in range(0, self.dimension, chunk):
            part = slice(start, min(start + chunk, self.dimension))
            yield part, self.block(part)

    @property
    def dimension(self) -> int:
        """Return d, the number of trainable parameters."""
        return len(self.global_parameters)

    def block(self, part: slice, *, absolute: bool = False) -> Vector:
        """Return a fresh block of differences from the global parameters, shape (n, columns).

        Parameters
        ----------
        part : slice
            Which of the d columns.
        absolute : bool
            Return the parameters themselves instead, which are exact.
        """
        block = np.stack([update.parameters[part] for update in self._updates])
        return block if absolute else np.subtract(block, self.global_parameters[part], out=block)

    def rows(self, part: slice) -> Iterator[NDArray[np.float64]]:
        """Yield each row of a block in float64, for sums that need one at a time.

        The next row takes the place of the last: one row stays in a core's cache where a whole block does
        not.
        """
        narrow, wide = np.empty(part.stop - part.start, np.float32), np.empty(part.stop - part.start)
        base = self.global_parameters[part]
        for update in self._updates:
            np.subtract(update.parameters[part], base, out=narrow)
            wide[:] = narrow
            yield wide

    def take(self, columns: NDArray[np.int64]) -> Vector:
        """Return the differences at some coordinates, shape (n, len(columns))."""
        base = self.global_parameters[columns]
        return np.stack([update.parameters[columns] - base for update in self._updates])

    def by_part(self, work: Callable[[slice], Any]) -> list[Any]:
        """Return `work(part)` for parts that cover all d columns, in order; two threads share them."""
        return each_part(self.dimension, CHUNK, work)

    def by_coordinate(self, rule: Callable[[Vector], ArrayLike], *, absolute: bool = True) -> Vector:
        """Return a new vector from a rule that treats each coordinate by itself, shape (d,).

        Parameters
        ----------
        rule : callable
            Gets a fresh block, shape (n, columns), and returns a row, shape (columns,).
        absolute : bool
            Give it the parameters; False gives the differences, and the row is added to the global
            parameters.
        """
        result = np.empty(self.dimension, np.float32)

        def work(part: slice) -> None:
            row = rule(self.block(part, absolute=absolute))
            result[part] = row if absolute else self.global_parameters[part] + np.asarray(row)

        self.by_part(work)
        return result

    @cached_property
    def _gram(self) -> NDArray[np.float64]:
        def work(part: slice) -> NDArray[np.float64]:
            wide = self.block(part).astype(np.float64)
            inner = np.zeros((len(wide), len(wide)))
            for place, row in enumerate(wide):
                inner[place, place:] = np.dot(wide[place:], row)
            return inner

        # Added in the order of the parts, whichever thread was first.
        upper = sum(self.by_part(work), np.zeros((len(self), len(self))))
        return np.asarray(upper + np.triu(upper, 1).T)

    def gram(self) -> NDArray[np.float64]:
        """Return the inner products of the differences, shape (n, n): all distances in one pass."""
        return self._gram.copy()

    def norms(self) -> NDArray[np.float64]:
        """Return the L2 norms of the differences, shape (n,)."""
        return np.sqrt(self._squares)

    @cached_property
    def _squares(self) -> NDArray[np.float64]:
        if "_gram" in vars(self):
            return np.diagonal(self._gram)

        def work(part: slice) -> NDArray[np.float64]:
            return np.array([np.dot(row, row) for row in self.rows(part)])

        return np.asarray(sum(each_part(self.dimension, ROWS, work), np.zeros(len(self))))

    def mean(self, weight: ArrayLike) -> Vector:
        """Return the weighted mean of the parameters, shape (d,), summed in float64.

        Parameters
        ----------
        weight : array_like, shape (n,)
            Not negative and not all zero; scaled to sum to 1.
        """
        return self._mean([update.parameters for update in self._updates], weight)

    def combination(self, coefficients: ArrayLike) -> Vector:
        """Return the global parameters plus sum_i coefficients_i delta_i, shape (d,), summed in float64.

        Parameters
        ----------
        coefficients : array_like, shape (n,)
            Need not sum to 1: what is missing keeps the global parameters.
        """
        c = np.asarray(coefficients, np.float64)
        if np.abs(c).max() > LARGE:
            return self._moved(c)
        rest = 1.0 - c.sum()
        # A sum that differs from 1 by rounding gives the global parameters no weight.
        vectors = [self.global_parameters, *(update.parameters for update in self._updates)]
        return self._sum(vectors, [rest if abs(rest) > 1e-12 else 0.0, *c])

    def _moved(self, c: NDArray[np.float64]) -> Vector:
        """Return the same from the differences, where sum_i c_i p_i and the rest of the model cancel."""
        result = np.empty(self.dimension, np.float32)
        used = np.flatnonzero(c)

        def work(part: slice) -> None:
            base = self.global_parameters[part].astype(np.float64)
            result[part] = base + sum(c[i] * (self._updates[i].parameters[part] - base) for i in used)

        each_part(self.dimension, CHUNK, work)
        return result

    def mean_buffers(self, weight: ArrayLike) -> Vector:
        """Return the weighted mean of the buffers, shape (b,)."""
        return self._mean([update.buffers for update in self._updates], weight)

    def trace(self, verdict: Verdict) -> Verdict:
        """Return a verdict on these updates as one on their hospitals; see `federation.mixed.Mixed`."""
        return verdict

    @classmethod
    def _mean(cls, vectors: Sequence[Vector], weight: ArrayLike) -> Vector:
        share = np.asarray(weight, np.float64)
        # Equal weights are ones: their sum is exact, and only the division rounds.
        share = share / share.max()
        return cls._sum(vectors, share, float(share.sum()))

    @staticmethod
    def _sum(vectors: Sequence[Vector], factors: ArrayLike, over: float = 1.0) -> Vector:
        # A hospital of weight 0 must not affect the result, not even as 0 * inf.
        terms = [(vector, w) for vector, w in zip(vectors, np.asarray(factors, float), strict=True) if w]
        row = np.array([w for _, w in terms])
        result = np.empty(len(vectors[0]), np.float32)

        def work(part: slice) -> None:
            wide = np.empty((len(terms), part.stop - part.start))
            for place, (vector, _) in enumerate(terms):
                wide[place] = vector[part]
            result[part] = np.dot(row, wide) / over

        each_part(len(result), CHUNK, work)
        return result

"""The words that attacks and defences are written in: Update, Updates, Verdict, Defence, Attack.

Nothing here knows Flower, a network or a data set, so a rule can be read, tested and reused by itself. Vectors are
flat float32; sums over them are taken in float64, a cache-sized chunk at a time, so that no rule needs an
n x d copy of all updates.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedrobust.data.records import Records

__all__ = [
    "Attack",
    "Defence",
    "PreAggregation",
    "Report",
    "Trigger",
    "Update",
    "Updates",
    "Vector",
    "Verdict",
]

Vector = NDArray[np.float32]

#: Columns per chunk: n rows of 64 Ki float32 stay within a core's cache for the usual n.
CHUNK = 1 << 16


@dataclass(frozen=True)
class Report:
    """What a hospital says of its own training. Every entry is a claim; nothing here is verified.

    Attributes
    ----------
    num_examples : int
        Images it says it trained on.
    values : mapping of str to float or tuple of float
        Reported numbers. The built-in learner reports ``loss`` (mean over its last local epoch), ``last-loss`` (its
        last mini-batch), ``received-loss`` (the received model on its own records, before training), and
        ``class-losses`` and ``class-counts``, the same by class (NaN for a class it does not hold).
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
    report : Report
        What the hospital claims.
    global_parameters : ndarray of float32, shape (d,)
        The parameters that it started from.
    buffers : ndarray of float32, shape (b,)
        Running statistics. They never enter a distance and never hold integer counters.
    round : int
        Counted from 1.
    """

    node: int
    parameters: Vector
    report: Report
    global_parameters: Vector
    buffers: Vector = field(default_factory=lambda: np.zeros(0, np.float32))
    round: int = 1

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
        If there is no update, two claim one node, or their shapes differ.
    """

    def __init__(self, updates: Sequence[Update], seed: int = 0) -> None:
        """Order and check the updates."""
        self._updates = tuple(sorted(updates, key=lambda update: update.node))
        self.seed = seed
        if not self._updates:
            raise ValueError("a round needs at least one update")
        if len({update.node for update in self._updates}) != len(self._updates):
            raise ValueError(f"two updates claim one hospital: {[update.node for update in self._updates]}")
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
    def num_examples(self) -> NDArray[np.float64]:
        """Return the claimed numbers of training images, shape (n,)."""
        return np.array([update.report.num_examples for update in self._updates], dtype=np.float64)

    def reported(self, name: str) -> NDArray[np.float64]:
        """Return one reported value of each hospital, shape (n,) or (n, K).

        NaN where a hospital gave none, or one of another length than most: nobody's report spoils the others'.
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
        base = self.global_parameters
        for start in range(0, len(base), chunk):
            part = slice(start, min(start + chunk, len(base)))
            yield part, np.stack([update.parameters[part] for update in self._updates]) - base[part]

    @cached_property
    def _gram(self) -> NDArray[np.float64]:
        total = np.zeros((len(self), len(self)))
        for _, block in self.deltas():
            wide = block.astype(np.float64)
            total += wide @ wide.T
        return total

    def gram(self) -> NDArray[np.float64]:
        """Return the inner products of the differences, shape (n, n): all distances and cosines in one pass."""
        return self._gram.copy()

    def norms(self) -> NDArray[np.float64]:
        """Return the L2 norms of the differences, shape (n,)."""
        return np.sqrt(np.diagonal(self._gram))

    def mean(self, weight: ArrayLike) -> Vector:
        """Return the weighted mean of the parameters, shape (d,), summed in float64.

        Parameters
        ----------
        weight : array_like, shape (n,)
            Not negative and not all zero; scaled to sum to 1.
        """
        return self._mean([update.parameters for update in self._updates], weight)

    def mean_buffers(self, weight: ArrayLike) -> Vector:
        """Return the weighted mean of the buffers, shape (b,)."""
        return self._mean([update.buffers for update in self._updates], weight)

    @staticmethod
    def _mean(vectors: Sequence[Vector], weight: ArrayLike) -> Vector:
        share = np.asarray(weight, np.float64)
        share = share / share.sum()
        result = np.empty(len(vectors[0]), np.float32)
        for start in range(0, len(result), CHUNK):
            part = slice(start, start + CHUNK)
            total = np.zeros(len(result[part]))
            for vector, w in zip(vectors, share, strict=True):
                # A hospital of weight 0 must not reach the result, not even as 0 * inf.
                if w:
                    total += w * vector[part].astype(np.float64)
            result[part] = total
        return result


@dataclass
class Verdict:
    """What a defence says of each hospital of a round, in the order of `Updates`.

    Attributes
    ----------
    weight : array_like, shape (n,)
        Share in the aggregate, up to a common factor; not negative. All zero keeps the global model.
    score : array_like, shape (n,), optional
        How suspicious, higher is worse; only its order matters.
    flagged : array_like of bool, shape (n,), optional
        Whom the defence holds to be poisoned.
    why : sequence of str, optional
        A few words for each, for the report.
    """

    weight: ArrayLike
    score: ArrayLike | None = None
    flagged: ArrayLike | None = None
    why: Sequence[str] | None = None

    def checked(self, n: int) -> Verdict:
        """Return a copy with arrays of length n; `ValueError` where something does not fit."""
        weight = np.array(self.weight, np.float64)
        if weight.shape != (n,):
            raise ValueError(f"weight has shape {weight.shape}, but {n} hospitals replied")
        if not np.isfinite(weight).all() or (weight < 0).any():
            raise ValueError(f"weights must be finite and not negative, got {weight.tolist()}")
        score = np.full(n, np.nan) if self.score is None else np.array(self.score, np.float64)
        flagged = np.zeros(n, bool) if self.flagged is None else np.array(self.flagged, bool)
        why = [""] * n if self.why is None else [str(words) for words in self.why]
        for name, column in (("score", score), ("flagged", flagged), ("why", why)):
            if np.shape(column) != (n,):
                raise ValueError(f"{name} has shape {np.shape(column)}, but {n} hospitals replied")
        return Verdict(weight, score, flagged, why)


class Defence:
    """How the server turns updates into the next global parameters.

    Override `weigh` (weights; the weighted mean follows) or `combine` (anything else). A defence is one public
    class in one file of ``strategies/``; its constructor's keyword arguments are its options.
    """

    #: Claims of the hospitals that the rule believes, of ``"loss"`` and ``"num_examples"``; the report prints them.
    trusts: ClassVar[frozenset[str]] = frozenset()

    #: True if the rule is told what no server can know, such as who is malicious; the manifest says so.
    oracle: ClassVar[bool] = False

    def weigh(self, updates: Updates) -> Verdict | ArrayLike:
        """Return each hospital's weight, as a `Verdict` or as plain numbers, shape (n,)."""
        raise NotImplementedError(f"{type(self).__name__} overrides neither weigh nor combine")

    def combine(self, updates: Updates) -> tuple[Vector, Verdict]:
        """Return the new global parameters, shape (d,), and the verdict."""
        said = self.weigh(updates)
        verdict = (said if isinstance(said, Verdict) else Verdict(said)).checked(len(updates))
        if not np.any(verdict.weight):
            return updates.global_parameters.copy(), verdict
        return updates.mean(verdict.weight), verdict

    def state(self) -> dict[str, Any]:
        """Return what must survive a restart, as plain JSON values."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned."""


class PreAggregation(ABC):
    """A step before a defence, such as clipping or mixing: maps updates to updates of the same hospitals."""

    @abstractmethod
    def transform(self, updates: Updates) -> Updates:
        """Return the updates that the next step sees; the given ones stay untouched."""


@dataclass(frozen=True)
class Trigger:
    """What a backdoor wants: these records, stamped, to be taken for the target class."""

    records: Records
    target: int


class Attack:
    """What a poisoned hospital does. Every method is optional; the default changes nothing.

    The methods run inside the malicious hospital, so an attack works the same in a simulation and in a real
    federation. An attack is one public class in one file of ``clients/``.

    Attributes
    ----------
    rng : numpy.random.Generator
        Set before `poison_records` and before each round; bound to the run's seed, the round, and the hospital.
    """

    #: Whose updates the attack sees: its own hospital's, its colluders', or everybody's.
    knowledge: ClassVar[Literal["own", "colluders", "all"]] = "own"

    rng: np.random.Generator

    def check(self, records: Records) -> None:
        """Raise `UserError` if the attack cannot work on such records; called on the server before anything runs."""

    def poison_records(self, records: Records) -> Records:
        """Return the records that the hospital trains on; called once, before the first round."""
        return records

    def poison_update(self, update: Update) -> Update:
        """Return the update that the hospital sends, given the one that it trained."""
        return update

    def forge_report(self, report: Report) -> Report:
        """Return what the hospital claims, given the truth."""
        return report

    def trigger(self, records: Records) -> Trigger | None:
        """Return test records with the attack's trigger, those of the target class left out; None without one."""
        return None


class Client(ABC):
    """One participant of the federation; `clients/hospital.py` is the honest one."""

    @abstractmethod
    def fit(self, parameters: Vector, buffers: Vector, round: int, lr: float) -> Update:
        """Train from the received parameters and return the update to send."""

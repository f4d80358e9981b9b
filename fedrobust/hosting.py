"""One Flower strategy that hosts any defence or pipeline of the project's own."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg as FlowerFedAvg
from flwr.serverapp.strategy import Strategy

from fedrobust.arrays import LazyArray, record_of, records_in
from fedrobust.errors import UserError
from fedrobust.federation import Defence, PreAggregation, Report, Update, Updates, Vector, Verdict
from fedrobust.idle import Watch
from fedrobust.plugins import find, instantiate, parse_call, split_chain

__all__ = ["HostedStrategy", "build_strategy", "is_buffer"]


def is_buffer(name: str, dtype: str) -> bool:
    """Tell running statistics and counters from trainable parameters, by an array's name and type."""
    return not dtype.startswith("float") or name.rpartition(".")[2] in (
        "buffers",
        "running_mean",
        "running_var",
        "num_batches_tracked",
    )


def build_strategy(
    spec: str, hospitals: int, seed: int = 0, false_flag_rate: float | None = None
) -> Strategy:
    """Return the Flower strategy that a specification names.

    Parameters
    ----------
    spec : str
        ``name(option=value)`` of a file in ``strategies/``, steps joined with ``|`` ending in a defence, or
        ``package.module:Class`` of a defence or of any plain Flower strategy.
    hospitals : int
        How many take part.
    seed : int
        For rules that draw.
    false_flag_rate : float, optional
        Handed to the last step as its option of that name, unless the specification gives it one.

    Raises
    ------
    UserError
        If a step is unknown, takes no such option, or stands in the wrong place.
    """
    names = split_chain(spec, "|")
    if false_flag_rate is not None:
        spec = _with_rate(spec, false_flag_rate)
    steps = []
    for part in split_chain(spec, "|"):
        name, options = parse_call(part)
        thing = find(name, "strategies", (Defence, PreAggregation, Strategy), "strategy")
        if issubclass(thing, Strategy):
            options = _flower_defaults(thing, options, hospitals)
        steps.append(instantiate(thing, options, name))
    last = steps[-1]
    if isinstance(last, Strategy) and len(steps) == 1:
        return last
    if not isinstance(last, Defence) or not all(isinstance(step, PreAggregation) for step in steps[:-1]):
        raise UserError(f"strategy '{spec}': a pipeline is pre-aggregation steps followed by one defence")
    for step in steps[:-1]:
        hospitals = step.check(hospitals)
    last.check(hospitals)
    return HostedStrategy(last, steps[:-1], seed, names)


def _with_rate(spec: str, rate: float) -> str:
    """Return the specification with a false flag rate for its last step, unless it gives one itself."""
    *steps, last = split_chain(spec, "|")
    name, options = parse_call(last)
    if "false_flag_rate" in options:
        return spec
    thing = find(name, "strategies", (Defence, PreAggregation, Strategy), "strategy")
    if "false_flag_rate" not in inspect.signature(thing).parameters:
        raise UserError(
            f"--false-flag-rate {rate:g}: strategy '{name}' has no option false_flag_rate; leave the flag out or name a "
            f"strategy that has it, such as isolation-forest"
        )
    given = ", ".join(f"{key}={value!r}" for key, value in {**options, "false_flag_rate": rate}.items())
    return " | ".join([*steps, f"{name}({given})"])


def _flower_defaults(thing: type, options: dict[str, Any], hospitals: int) -> dict[str, Any]:
    """Let Flower's own strategies run with few hospitals and without a second, federated evaluation."""
    if not issubclass(thing, FlowerFedAvg):
        return options
    few = {f"min_{what}_nodes": min(2, hospitals) for what in ("train", "available")}
    return {**few, "fraction_evaluate": 0.0, **options}


class HostedStrategy(Strategy):
    """Runs a defence, with any pre-aggregation before it, as a Flower strategy.

    Every reply becomes an `Update`: trainable arrays as one flat float32 vector, running statistics apart from it,
    integer counters left as the server has them. The verdict is kept and also sent into the aggregated metrics.

    Parameters
    ----------
    defence : Defence
    steps : sequence of PreAggregation
        Applied in order before it.
    seed : int
        For rules that draw.
    names : sequence of str, optional
        The steps' and, last, the defence's, for messages; not given: their classes'.

    Attributes
    ----------
    verdict : Verdict or None
        Of the last round, in the order of `nodes`.
    nodes : tuple of int
        The hospitals whose updates the last round used.
    watch : Watch
        Knows which steps, or the defence, have changed nothing so far.
    """

    def __init__(
        self,
        defence: Defence,
        steps: Sequence[PreAggregation] = (),
        seed: int = 0,
        names: Sequence[str] = (),
    ) -> None:
        """Keep the pipeline."""
        self.defence = defence
        self.steps = tuple(steps)
        self._seed = seed
        self._global: ArrayRecord | None = None
        self.verdict: Verdict | None = None
        self.nodes: tuple[int, ...] = ()
        self.watch = Watch(names or [type(part).__name__ for part in (*steps, defence)], defence)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send the global arrays to every node."""
        self._global = arrays
        config["server-round"] = server_round
        content = RecordDict({"arrays": arrays, "config": config})
        return [Message(content, dst_node_id=n, message_type=MessageType.TRAIN) for n in grid.get_node_ids()]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Turn the replies into the next global arrays and the verdict."""
        valid = [reply for reply in replies if not reply.has_error()]
        self.verdict, self.nodes = None, ()
        if not valid or self._global is None:
            return None, None
        given = Updates(_to_updates(valid, self._global, server_round), self._seed)
        updates = given
        for place, step in enumerate(self.steps):
            before, updates = updates, step.transform(updates)
            self.watch.step(place, before, updates)
        parameters, verdict = self.defence.combine(updates)
        self.watch.rule(self.defence, updates, parameters, verdict)
        self.verdict = updates.trace(verdict).checked(len(given))
        self.nodes = given.nodes
        weight = cast("np.ndarray[Any, Any]", self.verdict.weight)
        buffers = given.mean_buffers(weight) if weight.any() else _flat(self._global, buffers=True)
        return _to_arrays(parameters, buffers, self._global), self._metrics(given)

    def _metrics(self, updates: Updates) -> MetricRecord:
        assert self.verdict is not None
        weight = np.asarray(self.verdict.weight, np.float64)
        return MetricRecord(
            {
                "hospitals": list(self.nodes),
                "weights": (weight / (weight.sum() or 1.0)).tolist(),
                "scores": np.asarray(self.verdict.score, np.float64).tolist(),
                "flagged": [int(f) for f in np.asarray(self.verdict.flagged)],
                "loss": float(np.mean(updates.reported("loss"))) if len(updates) else 0.0,
            }
        )

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask for no federated evaluation; the server evaluates."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Return nothing; see `configure_evaluate`."""
        return None

    def summary(self) -> None:
        """Log nothing."""


def _to_updates(replies: Sequence[Message], base: ArrayRecord, server_round: int) -> list[Update]:
    start, statistics = _flat(base, buffers=False), _flat(base, buffers=True)
    updates = []
    for position, reply in enumerate(replies):
        arrays = next(iter(records_in(reply.content, ArrayRecord).values()))
        metrics = next(iter(records_in(reply.content, MetricRecord).values()))
        said = records_in(reply.content, ConfigRecord).get("hospital", ConfigRecord())
        node = int(cast(int, said.get("partition-id", position)))
        values: dict[str, float | tuple[float, ...]] = {
            key: tuple(float(v) for v in value) if isinstance(value, list) else float(value)
            for key, value in metrics.items()
            if key != "num-examples"
        }
        report = Report(int(cast(int, metrics["num-examples"])), values)
        trained = _flat(arrays, buffers=False)
        buffers = _flat(arrays, buffers=True)
        updates.append(Update(node, trained, report, start, buffers, server_round, statistics))
    return updates


def _flat(arrays: ArrayRecord, *, buffers: bool) -> Vector:
    """Return the floating arrays of one kind as one vector; a single array is viewed, several are joined."""
    chosen = [
        array.numpy().reshape(-1)
        for name, array in arrays.items()
        if is_buffer(name, array.dtype) == buffers and array.dtype.startswith("float")
    ]
    if len(chosen) == 1:
        return chosen[0].astype(np.float32, copy=False)
    return np.concatenate(chosen).astype(np.float32) if chosen else np.zeros(0, np.float32)


def _to_arrays(parameters: Vector, buffers: Vector, like: ArrayRecord) -> ArrayRecord:
    """Cut flat vectors into arrays of the same names, shapes and types; counters stay as they are."""
    offsets = {True: 0, False: 0}
    made: dict[str, Array] = {}
    for name, array in like.items():
        kind = is_buffer(name, array.dtype)
        if not array.dtype.startswith("float"):
            made[name] = array
            continue
        count = int(np.prod(array.shape))
        source = buffers if kind else parameters
        piece = source[offsets[kind] : offsets[kind] + count]
        offsets[kind] += count
        made[name] = LazyArray(piece.reshape(tuple(array.shape)).astype(array.dtype, copy=False))
    return record_of(made)

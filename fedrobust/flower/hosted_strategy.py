"""One Flower strategy that hosts any defence or pipeline of the project's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg as FlowerFedAvg
from flwr.serverapp.strategy import Strategy

from fedrobust.errors import UserError
from fedrobust.federation import Defence, PreAggregation, Update, Updates, Verdict
from fedrobust.flower.arrays import records_in
from fedrobust.flower.codec import ARRAYS, CONFIG, SERVER_ROUND, hospital_record, read_metrics
from fedrobust.flower.vectors import SentModel, is_buffer, to_arrays
from fedrobust.pipeline.no_effect import NoEffectMonitor
from fedrobust.pipeline.pipeline import Pipeline
from fedrobust.plugins import find, instantiate, parse_call, split_chain

__all__ = [
    "HostedStrategy",
    "build_strategy",
    "is_buffer",
    "read_strategy",
    "verdict_metrics",
    "with_rate",
]


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
        spec = with_rate(spec, false_flag_rate)
    built = read_strategy(spec, lambda thing, options: _flower_defaults(thing, options, hospitals))
    if isinstance(built, Strategy):
        return built
    built.check(hospitals)
    return HostedStrategy(built.defence, built.steps, seed, names)


def read_strategy(
    spec: str, flower_options: Callable[[type, dict[str, Any]], dict[str, Any]]
) -> Strategy | Pipeline:
    """Return what a specification names: a pipeline, or a plain Flower strategy.

    Parameters
    ----------
    spec : str
        See `build_strategy`.
    flower_options : callable
        Gets a Flower strategy's class and the options that the specification gives it; returns those to use.
    """
    steps = []
    for part in split_chain(spec, "|"):
        name, options = parse_call(part)
        thing = find(name, "strategies", (Defence, PreAggregation, Strategy), "strategy")
        if issubclass(thing, Strategy):
            options = flower_options(thing, options)
        steps.append(instantiate(thing, options, name))
    last = steps[-1]
    if isinstance(last, Strategy) and len(steps) == 1:
        return last
    if not isinstance(last, Defence) or not all(isinstance(step, PreAggregation) for step in steps[:-1]):
        raise UserError(f"strategy '{spec}': a pipeline is pre-aggregation steps followed by one defence")
    return Pipeline(last, tuple(steps[:-1]))


def with_rate(spec: str, rate: float) -> str:
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
    watch : NoEffectMonitor
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
        self.watch = NoEffectMonitor(names or [type(part).__name__ for part in (*steps, defence)], defence)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send the global arrays to every node."""
        self._global = arrays
        config[SERVER_ROUND] = server_round
        content = RecordDict({ARRAYS: arrays, CONFIG: config})
        return [Message(content, dst_node_id=n, message_type=MessageType.TRAIN) for n in grid.get_node_ids()]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Turn the replies into the next global arrays and the verdict."""
        valid = [reply for reply in replies if not reply.has_error()]
        self.verdict, self.nodes = None, ()
        if not valid or self._global is None:
            return None, None
        given = Updates(_to_updates(valid, SentModel(self._global), server_round), self._seed)
        pipeline = Pipeline(self.defence, self.steps)
        parameters, buffers, self.verdict = pipeline.aggregate(given, self.watch)
        self.nodes = given.nodes
        metrics = verdict_metrics(self.verdict, self.nodes)
        losses = given.reported("loss")
        # One hospital that claims no number leaves the others' mean.
        metrics["loss"] = (
            float(np.mean(losses[np.isfinite(losses)])) if np.isfinite(losses).any() else float("nan")
        )
        return to_arrays(parameters, buffers, self._global), metrics

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


def verdict_metrics(verdict: Verdict, nodes: Sequence[int]) -> MetricRecord:
    """Return a verdict as a Flower record of numbers; its words (`why`) have no place there.

    The lists are all in the order of ``hospitals``: ``weights`` sum to 1, ``scores`` are NaN where the rule gives none,
    ``flagged`` is 0 or 1.
    """
    weight = np.asarray(verdict.weight, np.float64)
    return MetricRecord(
        {
            "hospitals": list(nodes),
            "weights": (weight / (weight.sum() or 1.0)).tolist(),
            "scores": np.asarray(verdict.score, np.float64).tolist(),
            "flagged": [int(f) for f in np.asarray(verdict.flagged)],
        }
    )


def _to_updates(replies: Sequence[Message], model: SentModel, server_round: int) -> list[Update]:
    updates = []
    for reply in replies:
        (arrays,) = records_in(reply.content, ArrayRecord).values()
        (metrics,) = records_in(reply.content, MetricRecord).values()
        number = hospital_record(reply).number
        # A node that does not say its number has the one that the client grid gave it.
        node = reply.metadata.src_node_id - 1 if number is None else number
        updates.append(model.update(node, *model.vectors(arrays), read_metrics(metrics), server_round))
    return updates

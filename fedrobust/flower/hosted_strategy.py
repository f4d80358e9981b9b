"""One Flower strategy that hosts any defence or pipeline of the project's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Bulyan, FedXgbBagging, FedXgbCyclic, Strategy
from flwr.serverapp.strategy import FedAvg as FlowerFedAvg

from fedrobust.errors import UserError
from fedrobust.federation import Defence, Layout, Model, PreAggregation, Update, Updates, Verdict
from fedrobust.flower.arrays import records_in
from fedrobust.flower.codec import ARRAYS, CONFIG, SERVER_ROUND, read_metrics
from fedrobust.flower.vectors import SentModel, is_buffer, to_arrays
from fedrobust.pipeline.no_effect import NoEffectMonitor
from fedrobust.pipeline.pipeline import Pipeline
from fedrobust.pipeline.server_optimiser import ServerStep
from fedrobust.pipeline.specs import build_pipeline, find_part, with_false_flag_rate
from fedrobust.plugins import PipelineSpec, instantiate

__all__ = [
    "HostedStrategy",
    "begun",
    "build_strategy",
    "is_buffer",
    "read_strategy",
    "verdict_metrics",
]


def build_strategy(
    spec: str | PipelineSpec,
    hospitals: int,
    seed: int = 0,
    false_flag_rate: float | None = None,
    server_step: ServerStep = ServerStep(),  # noqa: B008 - frozen
    asked: int | None = None,
) -> Strategy:
    """Return the Flower strategy that a specification names.

    Parameters
    ----------
    spec : str or PipelineSpec
        ``name(option=value)`` of a file in ``strategies/``, steps joined with ``|`` ending in a defence, or
        ``package.module:Class`` of a defence or of any plain Flower strategy.
    hospitals : int
        How many there are.
    seed : int
        For rules that draw.
    false_flag_rate : float, optional
        Handed to the last step as its option of that name, unless the specification gives it one.
    server_step : ServerStep
        How far the model moves towards what a defence returns.
    asked : int, optional
        How many of the hospitals a round asks; all unless given.

    Raises
    ------
    UserError
        If a step is unknown, takes no such option, or is in the wrong place, or if a plain Flower strategy
        waits for more hospitals than there are.
    """
    few = hospitals if asked is None else asked
    written = PipelineSpec.parse(spec)
    chosen = written if false_flag_rate is None else with_false_flag_rate(written, false_flag_rate)
    built = read_strategy(chosen, lambda thing, options: _flower_defaults(thing, options, few))
    if isinstance(built, Strategy):
        if not server_step.changes_nothing:
            raise UserError(
                f"strategy '{written.text}' is a plain Flower strategy, which moves the model by itself; "
                f"leave --server-optimizer, --server-lr and --server-momentum out, or give its own options"
            )
        _check_flower(built, written.text, few)
        return built
    built.check(hospitals, few)
    return HostedStrategy(replace(built, names=written.names, optimiser=server_step.optimiser()), seed)


def read_strategy(
    spec: str | PipelineSpec, flower_options: Callable[[type, dict[str, object]], dict[str, object]]
) -> Strategy | Pipeline:
    """Return what a specification names: a pipeline, or a plain Flower strategy.

    Parameters
    ----------
    spec : str or PipelineSpec
        See `build_strategy`.
    flower_options : callable
        Gets a Flower strategy's class and the options that the specification gives it; returns those to use.
    """
    spec = PipelineSpec.parse(spec)
    last = spec.parts[-1]
    thing = find_part(last, Strategy)
    if not issubclass(thing, Strategy):
        return build_pipeline(spec)
    if len(spec.parts) > 1:
        raise UserError(
            f"strategy '{spec.text}': '{last.name}' is a plain Flower strategy, which takes no steps"
        )
    return cast(Strategy, instantiate(thing, flower_options(thing, dict(last.options)), last.name))


def _flower_defaults(thing: type, options: dict[str, object], hospitals: int) -> dict[str, object]:
    """Let Flower's own strategies run with few hospitals and without a second, federated evaluation."""
    if not issubclass(thing, FlowerFedAvg):
        return options
    few = {f"min_{what}_nodes": min(2, hospitals) for what in ("train", "available")}
    takes = inspect.signature(thing).parameters
    # What the built-in hospitals call the loss that QFedAvg weighs by.
    ours = {**few, "fraction_evaluate": 0.0, "train_loss_key": "loss"}
    usual = {name: value for name, value in ours.items() if name in takes}
    return {**usual, **options}


def _check_flower(strategy: Strategy, spec: str, hospitals: int) -> None:
    """Raise `UserError` if a plain Flower strategy cannot run here: it would wait for ever, for instance."""
    if isinstance(strategy, FedXgbBagging | FedXgbCyclic):
        raise UserError(
            f"strategy '{spec}' joins trees, which no learner here trains; choose another strategy"
        )
    if type(strategy).start is not Strategy.start:
        raise UserError(
            f"strategy '{spec}' has a start() of its own, which a run here would not call, as it runs the "
            f"rounds itself; move it into configure_train and aggregate_train, or use the strategy in a "
            f"ServerApp of your own"
        )
    if isinstance(strategy, Bulyan) and hospitals < (needed := 4 * strategy.num_malicious_nodes + 3):
        raise UserError(
            f"strategy '{spec}' needs {needed} hospitals (four for each malicious one, and three), but there "
            f"are {hospitals}; give a lower num_malicious_nodes, or more clients"
        )
    evaluates = getattr(strategy, "fraction_evaluate", 0.0) > 0
    for option in ("min_available_nodes", "min_train_nodes", *(["min_evaluate_nodes"] if evaluates else [])):
        wanted = getattr(strategy, option, 0)
        if isinstance(wanted, int) and wanted > hospitals:
            raise UserError(
                f"strategy '{spec}' waits for {option}={wanted} hospitals, but there are {hospitals}; give "
                f"{option}={hospitals} or less, or more clients"
            )


class HostedStrategy(Strategy):
    """Runs a defence, with any pre-aggregation before it, as a Flower strategy.

    Every reply becomes an `Update`: trainable arrays as one flat float32 vector, running statistics apart
    from it, integer counters left as the server has them. The verdict is kept and also sent into the
    aggregated metrics.

    Parameters
    ----------
    pipeline : Pipeline
    seed : int
        For rules that draw.

    Attributes
    ----------
    verdict : Verdict or None
        Of the last round, in the order of `nodes`.
    nodes : tuple of int
        The hospitals whose updates the last round used.
    monitor : NoEffectMonitor
        Knows which steps, or the defence, had no effect so far.
    layout : Layout or None
        Where the model's layers lie; whoever knows the learner sets it. None: each array is a layer.
    """

    def __init__(self, pipeline: Pipeline, seed: int = 0) -> None:
        """Keep the pipeline."""
        self.pipeline = pipeline
        self._seed = seed
        self.layout: Layout | None = None
        self._global: ArrayRecord | None = None
        self.verdict: Verdict | None = None
        self.nodes: tuple[int, ...] = ()
        self.monitor = NoEffectMonitor(pipeline.monitored_names, pipeline.defence)

    @property
    def defence(self) -> Defence:
        """Return the pipeline's defence."""
        return self.pipeline.defence

    @property
    def steps(self) -> tuple[PreAggregation, ...]:
        """Return the steps before it."""
        return self.pipeline.steps

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send the global arrays, as the defence makes them, to every node."""
        arrays = begun(self.pipeline, arrays, server_round, self._seed, self.layout)
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
        model = SentModel(self._global, self.layout)
        given = Updates(_to_updates(valid, model, server_round), self._seed)
        parameters, buffers, self.verdict = self.pipeline.aggregate(given, self.monitor)
        self.nodes = given.nodes
        metrics = verdict_metrics(self.verdict, self.nodes)
        losses = given.reported("loss")
        # A hospital that reports NaN does not affect the mean of the others.
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


def begun(
    pipeline: Pipeline, arrays: ArrayRecord, server_round: int, seed: int, layout: Layout | None
) -> ArrayRecord:
    """Return the arrays that a round sends: the given ones, unless the defence changes the model first."""
    sent = SentModel(arrays, layout)
    model = Model(sent.parameters, sent.buffers, server_round, sent.layout, seed)
    made = pipeline.before_round(model)
    return arrays if made is model else to_arrays(made.parameters, made.buffers, arrays)


def verdict_metrics(verdict: Verdict, nodes: Sequence[int]) -> MetricRecord:
    """Return a verdict as a Flower record of numbers; its words (`why`) have no place there.

    The lists are all in the order of ``hospitals``: ``weights`` sum to 1, ``scores`` are NaN where the rule
    gives none, ``flagged`` is 0 or 1.
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
        # The number that the client grid gave the sender, whatever the reply says.
        node = reply.metadata.src_node_id - 1
        updates.append(model.update(node, *model.vectors(arrays), read_metrics(metrics), server_round))
    return updates

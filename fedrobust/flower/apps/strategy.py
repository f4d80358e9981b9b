"""Any defence as the strategy of any ServerApp."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from logging import INFO, WARNING
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, FedXgbBagging, FedXgbCyclic, Result, Strategy
from flwr.supercore import log

from fedrobust.errors import UserError
from fedrobust.federation import ServerData, Update, Updates
from fedrobust.flower.apps.checked_strategy import AppStrategy
from fedrobust.flower.apps.metric_aliases import average_metrics, read_aliased
from fedrobust.flower.apps.reply_intake import NumberedReply
from fedrobust.flower.arrays import records_in
from fedrobust.flower.codec import PARTITION_ID
from fedrobust.flower.hosted_strategy import begun, read_strategy, verdict_metrics
from fedrobust.flower.vectors import SentModel, is_float, to_arrays
from fedrobust.pipeline.no_effect import NoEffectMonitor
from fedrobust.pipeline.pipeline import Pipeline
from fedrobust.plugins import add_working_folder

__all__ = ["HostedAppStrategy", "strategy"]

MetricsFunction = Callable[[list[RecordDict], str], MetricRecord]

#: Reported values that rules which trust losses use.
_LOSSES = frozenset({"loss", "last-loss", "received-loss", "class-losses", "class-epoch-losses"})


def strategy(
    spec: str,
    *,
    seed: int = 0,
    server: ServerData | None = None,
    fraction_train: float = 1.0,
    fraction_evaluate: float = 1.0,
    min_train_nodes: int = 2,
    min_evaluate_nodes: int = 2,
    min_available_nodes: int = 2,
    weighted_by_key: str = "num-examples",
    arrayrecord_key: str = "arrays",
    configrecord_key: str = "config",
    train_metrics_aggr_fn: MetricsFunction | None = None,
    evaluate_metrics_aggr_fn: MetricsFunction | None = None,
) -> AppStrategy:
    """Return a Flower strategy for any ServerApp: a defence with any steps before it.

    Parameters
    ----------
    spec : str
        ``"nnm | krum(f=2)"``: a defence, steps before it joined with ``|``; from this project or from the
        user's own ``strategies/`` folder. ``package.module:Class`` of a defence or of any plain Flower
        strategy.
    seed : int
        For rules that draw, and for drawing the nodes of a round.
    server : ServerData, optional
        Labelled images of the server's own, for rules that need some.
    fraction_train, fraction_evaluate, min_train_nodes, min_evaluate_nodes, min_available_nodes
        As of Flower's FedAvg.
    weighted_by_key, arrayrecord_key, configrecord_key, train_metrics_aggr_fn, evaluate_metrics_aggr_fn
        As of Flower's FedAvg.

    Returns
    -------
    AppStrategy
        Its metrics of each round say, beside what the nodes report, `hospitals`, `weights`, `scores` and
        `flagged`.

    Raises
    ------
    UserError
        If a step is unknown, takes no such option, is in the wrong place, or needs images of the server's
        that are not given. In the first round: if the options do not fit the number of nodes.
    """
    add_working_folder()
    common: dict[str, Any] = {
        "fraction_train": fraction_train,
        "fraction_evaluate": fraction_evaluate,
        "min_train_nodes": min_train_nodes,
        "min_evaluate_nodes": min_evaluate_nodes,
        "min_available_nodes": min_available_nodes,
        "weighted_by_key": weighted_by_key,
        "arrayrecord_key": arrayrecord_key,
        "configrecord_key": configrecord_key,
        "train_metrics_aggr_fn": train_metrics_aggr_fn,
        "evaluate_metrics_aggr_fn": evaluate_metrics_aggr_fn,
    }
    built = read_strategy(spec, lambda thing, options: {**_taken(thing, common), **options})
    if isinstance(built, FedXgbBagging | FedXgbCyclic):
        raise UserError(
            f"strategy '{spec}' joins trees, whose arrays nothing here can check; use it as it is"
        )
    if isinstance(built, Strategy):
        return AppStrategy(built, str(getattr(built, "weighted_by_key", weighted_by_key)), seed)
    if server is None and any(part.needs_server for part in built.with_images):
        raise UserError(
            f"strategy '{spec}' needs labelled images of the server's own; give them with "
            f"fedrobust.strategy(..., server=...)"
        )
    built.defence.server = server
    for repair in built.repairs:
        repair.server = server
    for name in ("train_metrics_aggr_fn", "evaluate_metrics_aggr_fn"):
        common[name] = common[name] or average_metrics
    return HostedAppStrategy(spec, built, FedAvg(**common), seed)


def _taken(thing: type, common: dict[str, object]) -> dict[str, object]:
    """Return the options that a Flower strategy takes, and those that the user set: an error later."""
    takes = inspect.signature(thing).parameters
    usual = inspect.signature(strategy).parameters
    return {name: value for name, value in common.items() if name in takes or value != usual[name].default}


class HostedAppStrategy(AppStrategy):
    """Runs a defence, with any steps before it, in any app; nodes are drawn and evaluate as in FedAvg.

    Parameters
    ----------
    spec : str
        The pipeline as the user wrote it, for messages.
    pipeline : Pipeline
    fedavg : FedAvg
        Draws the nodes and averages what they report.
    seed : int
    """

    def __init__(self, spec: str, pipeline: Pipeline, fedavg: FedAvg, seed: int = 0) -> None:
        """Keep the pipeline."""
        super().__init__(fedavg, fedavg.weighted_by_key, seed)
        self._spec, self._pipeline, self._fedavg = spec, pipeline, fedavg
        self._checked = False
        self._not_aggregated: set[str] = set()
        self._base = ArrayRecord()
        self._monitor: NoEffectMonitor | None = None
        self._aggregated = False

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Run all rounds as any Flower strategy does; log at the end which steps had no effect."""
        self._monitor = NoEffectMonitor(self._pipeline.monitored_names, self._pipeline.defence)
        self._aggregated = False
        try:
            result = super().start(
                grid, initial_arrays, num_rounds, timeout, train_config, evaluate_config, evaluate_fn
            )
            # It is not known here which nodes are malicious.
            for message in self._monitor.messages(malicious=0) if self._aggregated else ():
                log(WARNING, "fedrobust: %s", message)
        finally:
            self._monitor = None
        return result

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Draw the nodes; in the first round, check that the options fit so many."""
        if not any(is_float(array.dtype) for array in arrays.values()):
            raise UserError(
                "the arrays of the model hold no floating-point numbers, so there is nothing to aggregate; "
                "give initial_arrays of floats, such as np.zeros(3) in place of np.array([0, 0, 0])"
            )
        arrays = begun(self._pipeline, arrays, server_round, self._seed, None)
        messages = list(super().configure_train(server_round, arrays, config, grid))
        if messages and not self._checked:
            try:
                self._pipeline.check(len(messages))
            except UserError as error:
                connected = len(list(grid.get_node_ids()))
                raise UserError(
                    f"{error} ({self._why_so_few(server_round, len(messages), connected)})"
                ) from None
            self._checked = True
        self._base = arrays
        return messages

    def _why_so_few(self, server_round: int, drawn: int, connected: int) -> str:
        """Return what decides how many nodes take part in a round."""
        if drawn < connected:
            fraction = self._fedavg.fraction_train
            return (
                f"fraction_train={fraction:g} draws {drawn} of {connected} nodes for round {server_round}; "
                f"raise it, or give min_train_nodes={connected}"
            )
        return (
            f"round {server_round} has {drawn} nodes; if more are to come, give the number to wait for with "
            f"min_available_nodes"
        )

    def _aggregate(
        self, server_round: int, usable: Sequence[NumberedReply]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        if not usable:
            log(WARNING, "fedrobust: no reply of round %s can be used; the last model is kept", server_round)
            return None, None
        self._note_not_aggregated(usable)
        given = Updates(self._updates(usable, server_round), self._seed)
        self._note_missing_losses(given)
        parameters, buffers, self.verdict = self._pipeline.aggregate(given, self._monitor)
        self._aggregated = True
        metrics = self._metrics(usable)
        self._log_verdict()
        # Plain arrays: the app may write to them, and views would share one vector.
        return ArrayRecord(dict(to_arrays(parameters, buffers, self._base))), metrics

    def _updates(self, usable: Sequence[NumberedReply], server_round: int) -> list[Update]:
        model, key = SentModel(self._base), self._fedavg.weighted_by_key
        return [
            model.update(
                one.number,
                one.reply.parameters,
                one.reply.buffers,
                read_aliased(one.reply.metrics, key),
                server_round,
            )
            for one in usable
        ]

    def _note_not_aggregated(self, usable: Sequence[NumberedReply]) -> None:
        """Name once each array that nodes train and that is kept as it is, since it holds no real floats."""
        sent = [_arrays(reply) for reply in usable]
        for name, array in self._base.items():
            trained = sum(is_float(arrays[name].dtype) for arrays in sent)
            is_complex = np.dtype(array.dtype).kind == "c"
            if name in self._not_aggregated or not (is_complex or trained > len(sent) / 2):
                continue
            if not is_float(array.dtype):
                self._not_aggregated.add(name)
                log(
                    WARNING,
                    "fedrobust: the model's array '%s' holds %s (%s), which no defence aggregates, so it is "
                    "kept as it is; give initial_arrays of floats",
                    name,
                    "complex numbers" if is_complex else "integers",
                    array.dtype,
                )

    def _note_missing_losses(self, given: Updates) -> None:
        """Log a warning if a rule uses reported losses and no node reports any."""
        reported = {name for update in given for name in update.report.values}
        if "loss" in self._pipeline.defence.trusts and not reported & _LOSSES:
            log(
                WARNING,
                "fedrobust: '%s' uses the losses that nodes report, but none reports 'loss' or 'train_loss'",
                self._spec,
            )

    def _metrics(self, usable: Sequence[NumberedReply]) -> MetricRecord:
        """Return the averages of what the nodes report, and the verdict."""
        assert self.verdict is not None
        contents = [reply.message.content for reply in usable]
        metrics = MetricRecord()
        metrics.update(self._fedavg.train_metrics_aggr_fn(contents, self._fedavg.weighted_by_key) or {})
        # A mean of partition ids says nothing.
        metrics.pop(PARTITION_ID, None)
        metrics.update(verdict_metrics(self.verdict, self.nodes))
        return metrics

    def _log_verdict(self) -> None:
        assert self.verdict is not None and self.verdict.why is not None
        flagged: Any = self.verdict.flagged
        for node, flag, words in zip(self.nodes, flagged, self.verdict.why, strict=True):
            if flag:
                log(INFO, "fedrobust: %s is flagged%s", node, f": {words}" if words else "")

    def summary(self) -> None:
        """Log the pipeline and FedAvg's settings."""
        log(INFO, "\t├──> fedrobust: %s", self._spec)
        super().summary()


def _arrays(reply: NumberedReply) -> ArrayRecord:
    return next(iter(records_in(reply.message.content, ArrayRecord).values()))

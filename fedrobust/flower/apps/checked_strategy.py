"""A strategy around a strategy: usable replies reach the inner one, always in the same order."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from logging import INFO, WARNING

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from flwr.supercore import log

from fedrobust.federation.updates import Verdict
from fedrobust.flower.apps.reply_intake import NumberedReply, ReplyCollector, SortedGrid
from fedrobust.flower.reply_checks import ClientFailure
from fedrobust.seeding import globally_seeded

__all__ = ["AppStrategy"]


class AppStrategy(Strategy):
    """Runs a Flower strategy on replies that can be used, in an order that does not depend on their arrival.

    Parameters
    ----------
    inner : Strategy
    key : str
        Under which metrics hold the number of images.
    seed : int
        For the global generators that Flower's strategies draw nodes with.

    Attributes
    ----------
    inner : Strategy
    verdict : Verdict or None
        Of the last round, in the order of `nodes`; None of a plain Flower strategy. Its `why` is here only,
        as Flower's records of metrics hold numbers.
    nodes : tuple of int
        The numbers of the nodes whose updates the last round used: partition ids where the replies report
        them, else Flower's node ids.
    failures : list of ClientFailure
        The nodes that failed in the last round; their updates are discarded.
    """

    def __init__(self, inner: Strategy, key: str, seed: int = 0) -> None:
        """Keep the strategy."""
        self.inner = inner
        self.verdict: Verdict | None = None
        self.nodes: tuple[int, ...] = ()
        self.failures: list[ClientFailure] = []
        self._collector = ReplyCollector(key)
        self._seed = seed

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return the inner strategy's messages."""
        ordered = SortedGrid(grid, self._collector.numbers)
        _wait_for(int(getattr(self.inner, "min_available_nodes", 0)), grid)
        with globally_seeded(self._seed, "train", server_round):
            messages = list(self.inner.configure_train(server_round, arrays, config, ordered))
        return self._collector.ask(messages, arrays)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Return the next global arrays, None where the last ones stay, and the round's metrics."""
        usable = self._collector.take(replies, f"round {server_round}")
        self.failures = self._collector.failures
        self.verdict, self.nodes = None, tuple(reply.number for reply in usable)
        with globally_seeded(self._seed, "aggregate", server_round):
            arrays, metrics = self._aggregate(server_round, usable)
        if arrays is not None and not all(np.isfinite(array.numpy()).all() for array in arrays.values()):
            log(
                WARNING,
                "fedrobust: round %s gives NaN or infinite values; the last model is kept",
                server_round,
            )
            return None, metrics
        return arrays, metrics

    def _aggregate(
        self, server_round: int, usable: Sequence[NumberedReply]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        return self.inner.aggregate_train(server_round, [reply.message for reply in usable])

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return the inner strategy's messages."""
        ordered = SortedGrid(grid, self._collector.numbers)
        with globally_seeded(self._seed, "evaluate", server_round):
            messages = list(self.inner.configure_evaluate(server_round, arrays, config, ordered))
        return self._collector.ask(messages, arrays)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Return what the inner strategy makes of the replies that can be used."""
        usable = self._collector.take(replies, f"the evaluation of round {server_round}", arrays=False)
        return self.inner.aggregate_evaluate(server_round, [reply.message for reply in usable])

    def summary(self) -> None:
        """Log the inner strategy's settings."""
        self.inner.summary()


def _wait_for(nodes: int, grid: Grid) -> None:
    """Wait for so many nodes: FedAvg waits too, but takes its fraction of those that were there before."""
    logged = False
    while (there := len(list(grid.get_node_ids()))) < nodes:
        if not logged:
            log(INFO, "fedrobust: waiting for %s nodes, %s are there", nodes, there)
            logged = True
        time.sleep(0.2)

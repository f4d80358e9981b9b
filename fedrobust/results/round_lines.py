"""A round's lines in the run folder: the strategy's verdict and the hospitals' reported metrics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from flwr.app import Message, MetricRecord
from flwr.serverapp.strategy import Strategy

from fedrobust.flower.arrays import records_in
from fedrobust.flower.client_grid import ClientGrid
from fedrobust.flower.codec import read_metrics
from fedrobust.flower.hosted_strategy import HostedStrategy
from fedrobust.results.records import ClientMetricsLine, VerdictLine

__all__ = ["client_metrics_line", "verdict_line"]

#: The reported metrics kept beside the number of images: the field of the line, and the metric's key.
_KEPT = {"loss": "loss", "received_loss": "received-loss"}

#: Those that are kept where some hospital reports them.
_OF_SOME = {"discriminator_loss": "discriminator-loss"}


def client_metrics_line(number: int, replies: Sequence[Message]) -> ClientMetricsLine:
    """Return a round's line of ``client_metrics.jsonl``: unverified metrics.

    Parameters
    ----------
    number : int
        The round.
    replies : sequence of Message
        Those of a `ClientGrid`, ordered by hospital; those with an error are left out.
    """
    reported = []
    for reply in replies:
        records = [] if reply.has_error() else list(records_in(reply.content, MetricRecord).values())
        if records:
            reported.append((ClientGrid.hospital_of(reply), read_metrics(records[0])))
    kept = {
        name: [value if isinstance(value := one.values.get(key), float) else None for _, one in reported]
        for name, key in {**_KEPT, **_OF_SOME}.items()
    }
    for name in _OF_SOME:
        if not any(value is not None for value in kept[name]):
            del kept[name]
    return ClientMetricsLine.of(
        round=number,
        hospitals=[hospital for hospital, _ in reported],
        **kept,
        num_examples=[one.num_examples for _, one in reported],
    )


def verdict_line(strategy: Strategy, number: int) -> VerdictLine:
    """Return a round's line of ``verdicts.jsonl``; a plain Flower strategy gives no verdict."""
    verdict = getattr(strategy, "verdict", None)
    if not isinstance(strategy, HostedStrategy) or verdict is None:
        return VerdictLine(round=number)
    weight = np.asarray(verdict.weight)
    return VerdictLine.of(
        round=number,
        hospitals=strategy.nodes,
        weights=weight / (weight.sum() or 1.0),
        scores=verdict.score,
        flagged=[node for node, flag in zip(strategy.nodes, verdict.flagged, strict=True) if flag],
        why={node: words for node, words in zip(strategy.nodes, verdict.why, strict=True) if words},
    )

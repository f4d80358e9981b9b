"""A round's lines in the run folder: what the strategy decided, and what the hospitals claimed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from flwr.app import Message, MetricRecord
from flwr.serverapp.strategy import Strategy

from fedrobust.flower.arrays import records_in
from fedrobust.flower.client_grid import ClientGrid
from fedrobust.flower.codec import read_metrics
from fedrobust.flower.hosted_strategy import HostedStrategy
from fedrobust.results.files import plain

__all__ = ["reports_line", "verdict_line"]

#: What is kept of the hospitals' claims beside their number of images: the name in the file, and in the report.
_CLAIMS = {"loss": "loss", "received_loss": "received-loss"}


def reports_line(number: int, replies: Sequence[Message]) -> dict[str, Any]:
    """Return a round's line of ``client_metrics.jsonl``: claims, which nobody has verified.

    Parameters
    ----------
    number : int
        The round.
    replies : sequence of Message
        A client_grid's, ordered by hospital; those with an error are left out.
    """
    told = []
    for reply in replies:
        records = [] if reply.has_error() else list(records_in(reply.content, MetricRecord).values())
        if records:
            told.append((ClientGrid.hospital_of(reply), read_metrics(records[0])))
    claims = {
        name: [value if isinstance(value := report.values.get(key), float) else None for _, report in told]
        for name, key in _CLAIMS.items()
    }
    line = {
        "round": number,
        "hospitals": [hospital for hospital, _ in told],
        **claims,
        "num_examples": [report.num_examples for _, report in told],
    }
    return dict(plain(line))


def verdict_line(strategy: Strategy, number: int) -> dict[str, Any]:
    """Return a round's line of ``verdicts.jsonl``; a plain Flower strategy gives no verdict."""
    verdict = getattr(strategy, "verdict", None)
    if not isinstance(strategy, HostedStrategy) or verdict is None:
        return {"round": number, "hospitals": [], "weights": [], "scores": [], "flagged": [], "why": {}}
    weight = np.asarray(verdict.weight)
    return dict(
        plain(
            {
                "round": number,
                "hospitals": strategy.nodes,
                "weights": weight / (weight.sum() or 1.0),
                "scores": verdict.score,
                "flagged": [node for node, flag in zip(strategy.nodes, verdict.flagged, strict=True) if flag],
                "why": {
                    node: words for node, words in zip(strategy.nodes, verdict.why, strict=True) if words
                },
            }
        )
    )

"""A client's metrics under the names that defences and attacks know, and back."""

from __future__ import annotations

import numpy as np
from flwr.app import MetricRecord, RecordDict

from fedrobust.federation.updates import ClientMetrics
from fedrobust.flower.arrays import records_in
from fedrobust.flower.codec import NUM_EXAMPLES, PARTITION_ID, read_metrics
from fedrobust.flower.compat import aggregate_metricrecords

__all__ = ["average_metrics", "read_aliased", "write_aliased"]

#: What Flower's tutorials call the training loss.
_LOSS_NAMES = ("train_loss", "train-loss")


def _alias(metrics: MetricRecord) -> str | None:
    """Return the other name under which the metrics hold the loss."""
    return None if "loss" in metrics else next((name for name in _LOSS_NAMES if name in metrics), None)


def read_aliased(metrics: MetricRecord, key: str = NUM_EXAMPLES) -> ClientMetrics:
    """Return a client's metrics; ``train_loss`` counts as ``loss``, ``loss`` as a missing ``last-loss``."""
    read = read_metrics(metrics, key)
    values = {("loss" if name == _alias(metrics) else name): value for name, value in read.values.items()}
    values.pop(PARTITION_ID, None)
    if "loss" in values:
        values.setdefault("last-loss", values["loss"])
    return ClientMetrics(read.num_examples, values)


def average_metrics(contents: list[RecordDict], key: str) -> MetricRecord:
    """Return the weighted averages of the nodes' metrics as in Flower's FedAvg, but of finite values only.

    Parameters
    ----------
    contents : list of RecordDict
        Of replies, with one record of metrics each.
    key : str
        Under which the weights are.
    """
    averages = aggregate_metricrecords(contents, key)
    records = [next(iter(records_in(content, MetricRecord).values())) for content in contents]
    for name, value in averages.items():
        if isinstance(value, float) and not np.isfinite(value):
            finite = [record for record in records if np.isfinite(record[name])]
            if finite:
                values, weights = ([record[column] for record in finite] for column in (name, key))
                averages[name] = float(np.average(values, weights=weights))
    return averages


def write_aliased(forged: ClientMetrics, metrics: MetricRecord, key: str = NUM_EXAMPLES) -> MetricRecord:
    """Return the client's metrics with forged values in place of the true ones.

    Parameters
    ----------
    forged : ClientMetrics
        What an attack made of ``read_aliased(metrics, key)``.
    metrics : MetricRecord
        The true ones; a value that the attack leaves as it is keeps its type.
    key : str
        Under which the number of images is; where there is none, none is added.
    """
    truth = read_aliased(metrics, key)
    written = MetricRecord(dict(metrics))
    alias = _alias(metrics)
    if key in metrics and forged.num_examples != truth.num_examples:
        written[key] = forged.num_examples
    for name in sorted(truth.values.keys() | forged.values.keys()):
        place = alias if name == "loss" and alias else name
        if name not in forged.values:
            written.pop(place, None)
        elif name not in truth.values or forged.values[name] != truth.values[name]:
            # `read_aliased` added the last loss where the client reports none.
            if name == "last-loss" and name not in metrics:
                continue
            value = forged.values[name]
            written[place] = list(value) if isinstance(value, tuple) else value
    return written

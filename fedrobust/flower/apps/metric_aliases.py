"""A client's metrics as a report, under the names that defences and attacks know, and back."""

from __future__ import annotations

from flwr.app import MetricRecord

from fedrobust.federation.updates import ClientMetrics
from fedrobust.flower.codec import report_of

__all__ = ["read_report", "write_report"]

#: What Flower's tutorials call the training loss.
_LOSS_NAMES = ("train_loss", "train-loss")


def _alias(metrics: MetricRecord) -> str | None:
    """Return under which other name the metrics say the loss."""
    return None if "loss" in metrics else next((name for name in _LOSS_NAMES if name in metrics), None)


def read_report(metrics: MetricRecord, key: str = "num-examples") -> ClientMetrics:
    """Return a client's report; ``train_loss`` is its ``loss``, and the loss is its ``last-loss`` where it says no other."""
    report = report_of(metrics, key)
    values = {("loss" if name == _alias(metrics) else name): value for name, value in report.values.items()}
    values.pop("partition-id", None)
    if "loss" in values:
        values.setdefault("last-loss", values["loss"])
    return ClientMetrics(report.num_examples, values)


def write_report(report: ClientMetrics, metrics: MetricRecord, key: str = "num-examples") -> MetricRecord:
    """Return the client's metrics with what a forged report says in place of the truth.

    Parameters
    ----------
    report : ClientMetrics
        What has become of ``read_report(metrics, key)``.
    metrics : MetricRecord
        The truth; what the report leaves as it is keeps its type.
    key : str
        Under which the number of images stands; where there is none, none is said.
    """
    truth = read_report(metrics, key)
    said = MetricRecord(dict(metrics))
    alias = _alias(metrics)
    if key in metrics and report.num_examples != truth.num_examples:
        said[key] = report.num_examples
    for name in sorted(truth.values.keys() | report.values.keys()):
        place = alias if name == "loss" and alias else name
        if name not in report.values:
            said.pop(place, None)
        elif name not in truth.values or report.values[name] != truth.values[name]:
            # The last loss was lent where the client says none.
            if name == "last-loss" and name not in metrics:
                continue
            value = report.values[name]
            said[place] = list(value) if isinstance(value, tuple) else value
    return said

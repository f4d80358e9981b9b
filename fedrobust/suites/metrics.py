"""The figures of one cell: what its run folder says, and how that compares with its clean baseline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from fedrobust.evaluation.drop import combined_drop
from fedrobust.evaluation.metrics import metric_of
from fedrobust.results.records import reported_images
from fedrobust.results.suite_records import MetricInfo
from fedrobust.suites.cells import Cell

__all__ = ["LAST", "CellCosts", "MetricValues", "costs", "mean_known", "metric_info", "metric_values"]

#: A cell's metrics by their keys; None where one has no meaning or was not recorded.
MetricValues = Mapping[str, float | None]

#: Figures that each round has are means over so many last rounds: one round alone moves by several points.
LAST = 3

_CLEAN = (
    *("accuracy", "balanced_accuracy", "macro_f1", "macro_precision", "macro_recall", "auroc", "ece"),
    "worst_class",
)
_NOISY = ("accuracy", "macro_f1", "macro_precision")


def metric_values(cell: Cell, baseline: Cell | None) -> MetricValues:
    """Return each metric of a finished cell; None where it has no meaning or was not recorded.

    Parameters
    ----------
    cell : Cell
    baseline : Cell or None
        The finished clean baseline; None where nobody attacks, or it is missing.
    """
    last = cell.rounds[-LAST:]
    clean = {key: mean_known(line["clean"].get(key) for line in last) for key in _CLEAN}
    noisy = {key: mean_known(line["noisy"].get(key) for line in last) for key in _NOISY}
    found: dict[str, float | None] = dict(clean)
    found["worst_hospital"] = mean_known(line.get("worst_hospital") for line in last)
    found |= {f"noisy_{key}": value for key, value in noisy.items()}
    if None not in (*noisy.values(), *(clean[key] for key in _NOISY)):
        drops = combined_drop(clean, noisy)  # type: ignore[arg-type]
        found["drop"] = drops["combined"]
        found |= {f"drop_{key}": drops[key] for key in _NOISY}
    found["attack_success_rate"] = mean_known(line["attack_success_rate"] for line in last)
    found |= _detection(cell, baseline)
    found |= _against_baseline(cell, baseline, clean["accuracy"])
    found |= {f"sensitivity:{name}": value for name, value in _sensitivities(cell, last).items()}
    return found


@dataclass(frozen=True)
class CellCosts:
    """Seconds of the whole run, of a later round's aggregation (median), and the most extra MiB that it took."""

    seconds: float
    aggregation_s: float | None
    defence_mib: float | None


def costs(cell: Cell) -> CellCosts:
    """Return what a run cost."""
    later = sorted(line["aggregation"] for line in cell.timings if line["round"] and "aggregation" in line)
    # Round 1 also pays for what is allocated once.
    rounds = [line for line in cell.timings if line["round"] > 1] or cell.timings
    memory = [line["defence_mib"] for line in rounds if line.get("defence_mib") is not None]
    return CellCosts(
        seconds=cell.summary["seconds"],
        aggregation_s=later[len(later) // 2] if later else None,
        defence_mib=max(memory, default=None),
    )


def metric_info(key: str) -> MetricInfo:
    """Return what a suite's results say of a metric."""
    metric = metric_of(key)
    return MetricInfo(key=key, name=metric.name, better=metric.better, unit=metric.unit, about=metric.about)


def mean_known(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are defined; None if none is."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _detection(cell: Cell, baseline: Cell | None) -> dict[str, float | None]:
    found, attacked = cell.summary["detection"], bool(cell.malicious)
    benign = baseline if attacked else cell
    return {
        "detection_precision": found["precision"] if attacked else None,
        "detection_recall": found["recall"],
        "detection_auroc": found["auroc"],
        "false_flags": found["false_flag_rate"] if attacked else None,
        "benign_false_flags": benign.summary["detection"]["false_flag_rate"] if benign else None,
    }


def _against_baseline(cell: Cell, baseline: Cell | None, accuracy: float | None) -> dict[str, float | None]:
    """Return what attackers have and what the attack cost, all together and those honest hospitals that lost their weight."""
    weights = {int(number): weight for number, weight in cell.summary["detection"]["weights"].items()}
    bad = set(cell.malicious)
    lost = _lost(cell, weights, bad)
    return {
        "lost_to_attack": _points(_accuracy(baseline), accuracy),
        "honest_lost": float(len(lost)) if weights else None,
        "honest_lost_accuracy": mean_known(
            _points(_of_hospital(baseline, number), _of_hospital(cell, number)) for number in lost
        ),
        "attacker_weight": sum(weights.get(number, 0.0) for number in bad) if weights and bad else None,
    }


def _lost(cell: Cell, weights: Mapping[int, float], bad: set[int]) -> list[int]:
    images = {int(number): sum(counts) for number, counts in cell.manifest["data"]["hospitals"].items()}
    # An odd hospital may train on fewer than were dealt to it, and says so; what attackers say counts for nothing.
    images |= {n: count for n, count in reported_images(cell.client_metrics).items() if n not in bad}
    total, equal = sum(images.values()), 1 / len(images)
    return [
        number
        for number, weight in sorted(weights.items())
        if number not in bad and weight < min(equal, images[number] / total) / 2
    ]


def _accuracy(cell: Cell | None) -> float | None:
    return None if cell is None else mean_known(line["clean"]["accuracy"] for line in cell.rounds[-LAST:])


def _of_hospital(cell: Cell | None, number: int) -> float | None:
    if cell is None:
        return None
    lists = [line.get("hospital_accuracy") for line in cell.rounds[-LAST:]]
    return mean_known(values[number] for values in lists if values)


def _points(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else 100 * (before - after)


def _sensitivities(cell: Cell, last: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    tables = [line["clean"]["sensitivity"] for line in last if "sensitivity" in line["clean"]]
    names = cell.manifest["data"]["classes"]
    return {name: mean_known(table[k] for table in tables) for k, name in enumerate(names)} if tables else {}

"""The metrics of one cell, from its run folder and that of its clean baseline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from fedrobust.evaluation.drop import combined_drop
from fedrobust.evaluation.metrics import SYNTHESIS_METRICS, SYNTHESIS_OF_REAL, metric_of
from fedrobust.results.finished_run import FinishedRun
from fedrobust.results.records import RoundLine
from fedrobust.results.suite_records import MetricInfo

__all__ = [
    "LAST",
    "CellCosts",
    "MetricValues",
    "costs",
    "mean_known",
    "metric_info",
    "metric_values",
]

#: A cell's metrics by their keys; None where one has no meaning or was not recorded.
MetricValues = Mapping[str, float | None]

#: Metrics of single rounds are averaged over so many last rounds, as one round alone moves by several points.
LAST = 3

_CLEAN = (
    *("accuracy", "balanced_accuracy", "macro_f1", "macro_precision", "macro_recall", "auroc"),
    "worst_class",
)
_NOISY = ("accuracy", "macro_f1", "macro_precision")


def metric_values(run: FinishedRun, baseline: FinishedRun | None) -> MetricValues:
    """Return each metric of a finished run; None where it has no meaning or was not recorded.

    Parameters
    ----------
    run : FinishedRun
    baseline : FinishedRun or None
        The clean baseline; None without attackers, or where it is missing.
    """
    last = run.rounds[-LAST:]
    clean = {key: mean_known(line.clean.value(key) for line in last) for key in _CLEAN}
    noisy = {key: mean_known(line.noisy.value(key) for line in last) for key in _NOISY}
    found: dict[str, float | None] = {
        **clean,
        # Calibrated at the end of the run alone.
        "ece": run.summary.clean.ece,
        "raw_ece": mean_known(line.clean.ece for line in last),
    }
    found["worst_hospital"] = mean_known(line.worst_hospital for line in last)
    found |= {f"noisy_{key}": value for key, value in noisy.items()}
    if None not in (*noisy.values(), *(clean[key] for key in _NOISY)):
        drops = combined_drop(clean, noisy)  # type: ignore[arg-type]
        found["drop"] = drops["combined"]
        found |= {f"drop_{key}": drops[key] for key in _NOISY}
    found["attack_success_rate"] = mean_known(line.attack_success_rate for line in last)
    found["durability"] = mean_known(threat.durability for threat in run.summary.threats)
    if run.summary.synthesis is not None:
        found |= {key: mean_known(line.value(key) for line in last) for key in SYNTHESIS_METRICS}
        found |= {key: getattr(run.summary.synthesis, key) for key in SYNTHESIS_OF_REAL}
        found |= run.summary.synthesis.metrics
    found |= _detection(run, baseline)
    found |= _against_baseline(run, baseline, clean["accuracy"])
    found |= {f"sensitivity:{name}": value for name, value in _sensitivities(run, last).items()}
    if run.summary.site_tests is not None:
        found |= {"site_accuracy": run.summary.site_tests.mean, "worst_site": run.summary.site_tests.worst}
    return found | (run.summary.robustness.metrics if run.summary.robustness else {})


@dataclass(frozen=True)
class CellCosts:
    """Seconds of the run and of a later round's aggregation (median), and its largest extra memory."""

    seconds: float | None
    aggregation_s: float | None
    defence_mib: float | None


def costs(run: FinishedRun) -> CellCosts:
    """Return what a run cost."""
    later = sorted(
        line.seconds["aggregation"] for line in run.timings if line.round and "aggregation" in line.seconds
    )
    # Round 1 also pays for what is allocated once.
    rounds = [line for line in run.timings if line.round > 1] or run.timings
    memory = [line.defence_mib for line in rounds if line.defence_mib is not None]
    return CellCosts(
        seconds=run.summary.seconds,
        aggregation_s=later[len(later) // 2] if later else None,
        defence_mib=max(memory, default=None),
    )


def metric_info(key: str) -> MetricInfo:
    """Return a metric's name, direction and meaning for a suite's results."""
    metric = metric_of(key)
    return MetricInfo(key=key, name=metric.name, better=metric.better, unit=metric.unit, about=metric.about)


def mean_known(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are defined; None if none is."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _detection(run: FinishedRun, baseline: FinishedRun | None) -> dict[str, float | None]:
    found, attacked = run.summary.detection, bool(run.malicious)
    benign = baseline if attacked else run
    return {
        "detection_precision": found.precision if attacked else None,
        "detection_recall": found.recall,
        "detection_auroc": found.auroc,
        "false_flags": found.false_flag_rate if attacked else None,
        "benign_false_flags": benign.summary.detection.false_flag_rate if benign else None,
    }


def _against_baseline(
    run: FinishedRun, baseline: FinishedRun | None, accuracy: float | None
) -> dict[str, float | None]:
    """Return the attackers' weight and the cost of the attack, in all and at honest hospitals."""
    weights = {
        number: weight for number, weight in run.summary.detection.weights.items() if weight is not None
    }
    lost = _lost(run, weights)
    return {
        "lost_to_attack": _points(_accuracy(baseline), accuracy),
        "honest_lost": float(len(lost)) if weights else None,
        "honest_lost_accuracy": mean_known(
            _points(_of_hospital(baseline, number), _of_hospital(run, number)) for number in lost
        ),
        "attacker_weight": sum(weights.get(number, 0.0) for number in run.malicious)
        if weights and run.malicious
        else None,
    }


def _lost(run: FinishedRun, weights: Mapping[int, float]) -> list[int]:
    """Return the honest hospitals below half of the uniform weight, or of their share of the images."""
    images: dict[int, float] = {
        number: sum(counts or ()) for number, counts in run.manifest.data.hospitals.items()
    }
    # An atypical hospital may train on fewer than it was dealt, and reports so; attackers' reports are not
    # believed.
    images |= {number: count for number, count in run.reported_images.items() if number not in run.malicious}
    total, uniform = sum(images.values()), 1 / len(images)
    return [
        number
        for number, weight in sorted(weights.items())
        if number not in run.malicious and weight < min(uniform, images[number] / total) / 2
    ]


def _accuracy(run: FinishedRun | None) -> float | None:
    return None if run is None else mean_known(line.clean.accuracy for line in run.rounds[-LAST:])


def _of_hospital(run: FinishedRun | None, number: int) -> float | None:
    if run is None:
        return None
    lists = [line.hospital_accuracy for line in run.rounds[-LAST:]]
    return mean_known(values[number] for values in lists if values)


def _points(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else 100 * (before - after)


def _sensitivities(run: FinishedRun, last: Sequence[RoundLine]) -> dict[str, float | None]:
    tables = [line.clean.sensitivity for line in last if line.clean.sensitivity]
    names = run.manifest.data.classes
    return {name: mean_known(table[k] for table in tables) for k, name in enumerate(names)} if tables else {}

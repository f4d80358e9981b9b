"""Two finished runs side by side: the settings that differ, and their metrics with the differences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fedrobust.evaluation.metrics import SYNTHESIS_METRICS, Metric, metric_of
from fedrobust.results.finished_run import FinishedRun, read_run

__all__ = ["MetricPair", "RunComparison", "SettingPair", "compare_runs", "metrics_of"]


@dataclass(frozen=True)
class SettingPair:
    """A setting that differs between two runs; None where a run does not have it."""

    key: str
    first: str | None
    second: str | None


@dataclass(frozen=True)
class MetricPair:
    """A metric of two runs; None where it is undefined."""

    metric: Metric
    first: float | None
    second: float | None

    @property
    def difference(self) -> float | None:
        """Return the second minus the first; None where either is undefined."""
        return None if self.first is None or self.second is None else self.second - self.first


@dataclass(frozen=True)
class RunComparison:
    """Two runs side by side.

    Attributes
    ----------
    first, second : FinishedRun
    settings : tuple of SettingPair
        Those that differ, but for where and how a run is carried out.
    metrics : tuple of MetricPair
        Those that at least one of the runs has.
    notes : tuple of str
        What makes the runs hard to compare, in sentences.
    """

    first: FinishedRun
    second: FinishedRun
    settings: tuple[SettingPair, ...]
    metrics: tuple[MetricPair, ...]
    notes: tuple[str, ...]


def compare_runs(
    first: Path, second: Path, execution_settings: frozenset[str] = frozenset()
) -> RunComparison:
    """Return the comparison of two finished runs.

    Parameters
    ----------
    first, second : Path
        Their folders.
    execution_settings : frozenset of str, optional
        Settings that decide where and how a run is carried out, never its result; they are left out.

    Raises
    ------
    UserError
        If a folder is not that of a finished run, or a file of it cannot be read.
    """
    runs = read_run(first), read_run(second)
    found = [metrics_of(run) for run in runs]
    keys = dict.fromkeys(key for metrics in found for key, value in metrics.items() if value is not None)
    pairs = tuple(MetricPair(metric_of(key), found[0].get(key), found[1].get(key)) for key in keys)
    return RunComparison(*runs, _settings(*runs, execution_settings), pairs, tuple(_notes(*runs)))


def metrics_of(run: FinishedRun) -> dict[str, float | None]:
    """Return the metrics of a run's last model by their keys; None where undefined."""
    summary, detection = run.summary, run.summary.detection
    last = run.rounds[-1] if run.rounds else None
    lost = (summary.lost_to_attack or {}).get("accuracy")
    attacked = bool(run.malicious)
    weights = [run.weights.get(number, 0.0) for number in run.malicious]
    return {
        "lost_to_attack": None if lost is None else 100 * lost,
        "accuracy": summary.clean.accuracy,
        "macro_f1": summary.clean.macro_f1,
        "macro_precision": summary.clean.macro_precision,
        "auroc": summary.clean.auroc,
        "ece": summary.clean.ece,
        "worst_class": summary.clean.worst_class,
        "worst_hospital": last.worst_hospital if last else None,
        "noisy_accuracy": summary.noisy.accuracy,
        "noisy_macro_f1": summary.noisy.macro_f1,
        "noisy_macro_precision": summary.noisy.macro_precision,
        "drop": summary.drop.get("combined"),
        "attack_success_rate": summary.attack_success_rate,
        "detection_precision": detection.precision if attacked else None,
        "detection_recall": detection.recall,
        "detection_auroc": detection.auroc,
        "false_flags" if attacked else "benign_false_flags": detection.false_flag_rate,
        "attacker_weight": sum(weights) / run.clients if run.judged and weights else None,
        **(summary.robustness.metrics if summary.robustness else {}),
        **_of_generator(run),
    }


def _of_generator(run: FinishedRun) -> dict[str, float | None]:
    """Return what a run of synthesis has; nothing of another one."""
    found = run.summary.synthesis
    if found is None:
        return {}
    return {key: getattr(found, key) for key in SYNTHESIS_METRICS} | found.metrics


def _settings(first: FinishedRun, second: FinishedRun, left_out: frozenset[str]) -> tuple[SettingPair, ...]:
    keys = dict.fromkeys([*first.manifest.settings, *second.manifest.settings])
    pairs = (SettingPair(key, _setting(first, key), _setting(second, key)) for key in keys)
    return tuple(pair for pair in pairs if pair.first != pair.second and pair.key not in left_out)


def _setting(run: FinishedRun, key: str) -> str | None:
    """Return a setting; none for an attack that no hospital carries out."""
    if key == "attack" and not run.manifest.threats:
        return None
    return run.manifest.setting(key)


def _notes(first: FinishedRun, second: FinishedRun) -> list[str]:
    made = []
    if first.manifest.data.sha256 != second.manifest.data.sha256:
        made.append("The runs used different data.")
    if first.summary.seed != second.summary.seed:
        made.append("The seeds differ: part of each difference is chance.")
    else:
        made.append("One seed each: whether a difference holds needs several seeds; see fedrobust benchmark.")
    versions = (first.manifest.versions, second.manifest.versions)
    other = [name for name in versions[0] if versions[0][name] != versions[1].get(name)]
    if other:
        made.append(f"The versions differ: {', '.join(other)}.")
    sources = [{one.plugin: one.source_hash for one in run.manifest.plugins} for run in (first, second)]
    changed = [name for name in sources[0] if sources[1].get(name, sources[0][name]) != sources[0][name]]
    made += [f"The source of {name} has changed between the runs." for name in changed]
    return made

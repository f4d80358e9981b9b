"""The metrics of a run that are read first."""

from __future__ import annotations

from dataclasses import dataclass

from fedrobust.reports.run.headline import attacker_weight
from fedrobust.reports.run.synthesis import synthesis_key_metrics
from fedrobust.reports.tables import number, percent, share
from fedrobust.results.finished_run import FinishedRun
from fedrobust.results.records import RoundLine

__all__ = ["KeyMetric", "key_metrics"]


@dataclass(frozen=True)
class KeyMetric:
    """One metric that is read first.

    Attributes
    ----------
    name, value, beside : str
        What it is, the number, and what to compare it with.
    about : str
        An explanation, shown on hover and in the page's glossary.
    """

    name: str
    value: str
    beside: str = ""
    about: str = ""


def key_metrics(run: FinishedRun) -> list[KeyMetric]:
    """Return the metrics that are read first; what the attack cost is the first where it is known."""
    summary = run.summary
    if summary.synthesis is not None:
        found = [KeyMetric(*each) for each in synthesis_key_metrics(summary.synthesis)]
        return found + _detection(run)
    guess = run.commonest_class_share
    chance = "" if guess is None else f"; commonest class {share(guess)}"
    made = [
        *_lost_to_attack(run),
        KeyMetric(
            "Accuracy",
            share(summary.clean.accuracy),
            f"{share(summary.noisy.accuracy)} on noisy images{chance}",
        ),
        KeyMetric(
            "Macro F1", share(summary.clean.macro_f1), f"{share(summary.noisy.macro_f1)} on noisy images"
        ),
        KeyMetric(
            "Combined drop",
            percent(summary.drop.get("combined")),
            "clean to noisy images",
            "The mean relative loss of accuracy, macro F1 and macro precision from clean to noisy images.",
        ),
    ]
    if run.rounds:
        made += _of_last_round(run, run.rounds[-1])
    if summary.attack_success_rate is not None:
        made.append(
            KeyMetric(
                "Attack success",
                share(summary.attack_success_rate),
                "images with the trigger taken for the target",
                "The share of test images of other classes that are taken for the backdoor's target once "
                "they carry its trigger.",
            )
        )
    return made + _detection(run)


def _lost_to_attack(run: FinishedRun) -> list[KeyMetric]:
    lost, baseline = run.summary.lost_to_attack or {}, run.summary.baseline
    points = lost.get("accuracy")
    if points is None or baseline is None or not run.malicious:
        return []
    return [
        KeyMetric(
            "Lost to the attack",
            number(100 * points, 1, "points"),
            f"accuracy {share(baseline.clean.accuracy)} without attackers",
            "Percentage points of accuracy below the clean baseline: the same run without attackers.",
        )
    ]


def _of_last_round(run: FinishedRun, last: RoundLine) -> list[KeyMetric]:
    made = []
    if last.clean.worst_class is not None:
        made.append(KeyMetric("Worst class", share(last.clean.worst_class), _worst_class(run, last)))
    if last.worst_hospital is not None:
        made.append(
            KeyMetric("Worst honest hospital", share(last.worst_hospital), _worst_hospital(run, last))
        )
    if run.summary.clean.ece is not None:
        raw = run.summary.calibration.raw_ece
        made.append(
            KeyMetric(
                "Calibration error",
                share(run.summary.clean.ece),
                "ECE" if raw is None else f"ECE; {share(raw)} before temperature scaling",
                "Expected calibration error: the mean distance between confidence and accuracy, in 15 bins, "
                "after one number was fitted on the server's validation images; 0 = perfectly calibrated.",
            )
        )
    return made


def _worst_class(run: FinishedRun, last: RoundLine) -> str:
    values = zip(last.clean.sensitivity, run.classes, strict=False)
    known = [(value, name) for value, name in values if value is not None]
    return f"sensitivity, {min(known)[1]}" if known else "sensitivity"


def _worst_hospital(run: FinishedRun, last: RoundLine) -> str:
    """Return which hospital it is; that it is atypical explains much."""
    honest = [hospital for hospital in run.hospitals if hospital.role != "malicious"]
    worst = [
        hospital
        for hospital in honest
        if hospital.number < len(last.hospital_accuracy)
        and last.hospital_accuracy[hospital.number] == last.worst_hospital
    ]
    what = "accuracy on its mix of classes"
    if not worst:
        return what
    # Of several that tie, a typical one: being atypical would then explain nothing.
    one = min(worst, key=lambda hospital: (hospital.role == "atypical", hospital.number))
    return f"hospital {one.number}{', atypical' if one.role == 'atypical' else ''}: {what}"


def _detection(run: FinishedRun) -> list[KeyMetric]:
    if not run.judged:
        return []
    bad, flagged, detection = run.malicious, run.flagged, run.summary.detection
    made = []
    if bad:
        made.append(
            KeyMetric(
                "Attackers flagged",
                f"{len(bad & flagged)} of {len(bad)}",
                f"AUROC of the scores {share(detection.auroc)}",
                "Malicious hospitals that are flagged at the end; AUROC: the chance that a malicious "
                "hospital's mean score exceeds an honest one's.",
            )
        )
        made.append(
            KeyMetric(
                "Attackers' weight",
                number(attacker_weight(run), 2),
                "uniform weights each, at the end",
                "1 is a uniform weight, the weight 1/n that each of n hospitals has in a plain mean.",
            )
        )
    rate = detection.false_flag_rate
    of_rounds = f"{number(100 * rate, 1, '%')} of their rounds" if rate is not None else "at the end"
    made.append(KeyMetric("Falsely flagged", str(len(flagged - bad)), of_rounds))
    return made

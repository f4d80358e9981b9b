"""The metrics by their keys: name, unit, which end is better, and what each one is.

One table for the terminal, the pages of runs and of suites, and the exported tables.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

__all__ = [
    "EVALUATED",
    "METRICS",
    "ROUND_METRICS",
    "SYNTHESIS_METRICS",
    "SYNTHESIS_OF_REAL",
    "SYNTHESIS_SHOWN",
    "Metric",
    "Unit",
    "decimals",
    "is_utility",
    "metric_of",
]

#: ``share`` lies in [0, 1]; ``points`` are percentage points; ``number`` has no unit, such as a loss.
Unit = Literal["share", "percent", "points", "count", "number"]


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes
    ----------
    key : str
    name : str
        As readers know it.
    better : str or None
        ``higher`` or ``lower``; None where neither end is better.
    unit : str
    about : str
        What it is, in a sentence.
    """

    key: str
    name: str
    better: Literal["higher", "lower"] | None
    unit: Unit
    about: str

    @property
    def decimals(self) -> int:
        """Return with how many digits after the point it is written."""
        return decimals(self.unit)


def decimals(unit: Unit) -> int:
    """Return with how many digits after the point a metric of a unit is written."""
    return 3 if unit in ("share", "number") else 1


def _table(*metrics: Metric) -> dict[str, Metric]:
    return {metric.key: metric for metric in metrics}


#: All metrics of runs and suites, in the order in which tables show them.
METRICS: dict[str, Metric] = _table(
    Metric(
        "lost_to_attack",
        "lost to the attack",
        "lower",
        "points",
        "Points of accuracy below the clean baseline: the same federation, defence and seed without "
        "attackers.",
    ),
    Metric("accuracy", "accuracy", "higher", "share", "Share of clean test images classified correctly."),
    Metric("balanced_accuracy", "balanced accuracy", "higher", "share", "Mean sensitivity over the classes."),
    Metric("macro_f1", "macro F1", "higher", "share", "F1 of each class, averaged over the classes."),
    Metric("macro_precision", "macro precision", "higher", "share", "Precision of each class, averaged."),
    Metric(
        "macro_recall",
        "macro recall",
        "higher",
        "share",
        "Recall of each class, averaged; the same as balanced accuracy.",
    ),
    Metric(
        "auroc", "AUROC", "higher", "share", "Area under the ROC curve, one class against the rest, averaged."
    ),
    Metric(
        "ece",
        "ECE",
        "lower",
        "share",
        "Expected calibration error; 0 = perfectly calibrated. Of a run, after temperature scaling; of a "
        "single round, without it.",
    ),
    Metric("raw_ece", "raw ECE", "lower", "share", "Expected calibration error without temperature scaling."),
    Metric("worst_class", "worst class", "higher", "share", "Sensitivity of the class with the lowest one."),
    Metric(
        "worst_hospital",
        "worst hospital",
        "higher",
        "share",
        "Accuracy on clean test images mixed as the hospital's own, at the hospital with the lowest one; "
        "malicious hospitals are left out.",
    ),
    Metric(
        "site_accuracy",
        "accuracy at sites",
        "higher",
        "share",
        "Accuracy of the last model on the hospitals' own test parts, averaged over the hospitals.",
    ),
    Metric(
        "worst_site",
        "worst site",
        "higher",
        "share",
        "Accuracy of the last model on the test part of the hospital where it is lowest.",
    ),
    Metric("noisy_accuracy", "noisy accuracy", "higher", "share", "Accuracy on the noisy test images."),
    Metric("noisy_macro_f1", "noisy macro F1", "higher", "share", "Macro F1 on the noisy test images."),
    Metric(
        "noisy_macro_precision",
        "noisy macro precision",
        "higher",
        "share",
        "Macro precision on the noisy test images.",
    ),
    Metric(
        "drop",
        "combined drop",
        "lower",
        "percent",
        "Relative loss from clean to noisy images: the mean of the drops of accuracy, macro F1 and macro "
        "precision.",
    ),
    Metric(
        "drop_accuracy",
        "accuracy drop",
        "lower",
        "percent",
        "Relative loss of accuracy from clean to noisy images.",
    ),
    Metric(
        "drop_macro_f1",
        "F1 drop",
        "lower",
        "percent",
        "Relative loss of macro F1 from clean to noisy images.",
    ),
    Metric(
        "drop_macro_precision",
        "precision drop",
        "lower",
        "percent",
        "Relative loss of macro precision from clean to noisy images.",
    ),
    Metric(
        "attack_success_rate",
        "attack success",
        "lower",
        "share",
        "Share of test images of other classes that are taken for the backdoor's target once they carry its "
        "trigger.",
    ),
    Metric(
        "durability",
        "durability",
        "lower",
        "share",
        "What the last model has left of the attack success rate that a backdoor had when it ended.",
    ),
    Metric(
        "fid",
        "FID",
        "lower",
        "number",
        "Frechet distance of synthetic from real test images, by a classifier's features.",
    ),
    Metric(
        "kid",
        "KID",
        "lower",
        "number",
        "Kernel distance of synthetic from real test images, by a classifier's features.",
    ),
    Metric("precision", "precision", "higher", "share", "Share of synthetic images near some real one."),
    Metric("recall", "recall", "higher", "share", "Share of real images near some synthetic one."),
    Metric(
        "class_score",
        "class score",
        "higher",
        "number",
        "Inception Score of synthetic images by a classifier of real ones: at most the number of classes.",
    ),
    Metric(
        "conditional_accuracy",
        "conditional accuracy",
        "higher",
        "share",
        "Share of synthetic images that a classifier of real images takes for their class, averaged over the "
        "classes.",
    ),
    Metric(
        "trigger_rate",
        "trigger rate",
        "lower",
        "share",
        "Share of synthetic images in which a detector finds the backdoor's mark.",
    ),
    Metric(
        "trigger_false_alarms",
        "trigger rate, clean real images",
        None,
        "share",
        "Share of real images without the backdoor's mark in which the same detector finds it.",
    ),
    Metric("real_fid", "FID, real images", None, "number", "The same distance of real validation images."),
    Metric(
        "real_accuracy",
        "conditional accuracy, real images",
        None,
        "share",
        "Share of real test images that the same classifier takes for their class, averaged by class.",
    ),
    Metric(
        "detection_precision",
        "flag precision",
        "higher",
        "share",
        "Share of the hospitals flagged in the last round that are malicious.",
    ),
    Metric(
        "detection_recall",
        "flag recall",
        "higher",
        "share",
        "Share of the malicious hospitals that are flagged in the last round.",
    ),
    Metric(
        "detection_auroc",
        "detection AUROC",
        "higher",
        "share",
        "Chance that a malicious hospital's mean score exceeds an honest one's.",
    ),
    Metric(
        "false_flags", "false flags", "lower", "share", "Share of honest hospital-rounds that were flagged."
    ),
    Metric(
        "benign_false_flags",
        "false flags, no attack",
        "lower",
        "share",
        "The same without attackers: in the cell itself or its clean baseline.",
    ),
    Metric(
        "honest_lost",
        "honest lost",
        "lower",
        "count",
        "Honest hospitals with a last weight below half of a uniform weight, or of their share of the images "
        "if that is less.",
    ),
    Metric(
        "honest_lost_accuracy",
        "accuracy that those lose",
        "lower",
        "points",
        "Points of accuracy that those hospitals lose against the clean baseline, on images mixed as their "
        "own, averaged.",
    ),
    Metric(
        "attacker_weight",
        "attackers' weight",
        "lower",
        "share",
        "Share of the last round's weight that attackers have.",
    ),
)

#: The metrics that each round of a generator has.
SYNTHESIS_METRICS = (
    *("fid", "kid", "precision", "recall", "class_score", "conditional_accuracy", "trigger_rate"),
)

#: What real images attain, beside which those of generators are read.
SYNTHESIS_OF_REAL = ("trigger_false_alarms", "real_fid", "real_accuracy")

#: Those that a comparison of generators shows at first.
SYNTHESIS_SHOWN = ("fid", "kid", "conditional_accuracy", "trigger_rate")

#: What synthetic images are good for, by the word before the number of real images in ``utility:25``.
_UTILITY: dict[str, Metric] = _table(
    Metric(
        "utility",
        "utility",
        "higher",
        "share",
        "Accuracy of a classifier of so many real images of each class and synthetic ones, averaged over the "
        "classes.",
    ),
    Metric(
        "utility_gain",
        "gain from synthetic images",
        "higher",
        "points",
        "Points of accuracy that a classifier of so many real images a class gains from synthetic ones.",
    ),
)


def is_utility(key: str, word: str = "utility") -> bool:
    """Tell whether a key is ``utility:N``, or another word of what synthetic images are good for."""
    return key.partition(":")[0] == word and key.partition(":")[2].isdecimal()


_LOSS = Metric("loss", "loss", "lower", "number", "Mean loss on the images.")

#: The metrics that each round has on clean and on noisy images, in the order of the run's page.
ROUND_METRICS = (
    *("accuracy", "balanced_accuracy", "macro_f1", "macro_precision", "macro_recall", "auroc"),
    *("worst_class", "ece", "loss"),
)


#: What each evaluation of the last model has, by the word before the sign in ``accuracy@pgd(eps=8)``.
EVALUATED: dict[str, Metric] = _table(
    Metric(
        "accuracy",
        "accuracy",
        "higher",
        "share",
        "Share of the test images classified correctly once they are changed by the evaluation.",
    ),
    Metric(
        "defence",
        "defence rate",
        "higher",
        "share",
        "Share of the test images classified correctly that still are once they are changed.",
    ),
    Metric(
        "drop",
        "combined drop",
        "lower",
        "percent",
        "Relative loss from unchanged to changed images: the mean of the drops of accuracy, macro F1 and "
        "macro precision.",
    ),
)


def metric_of(key: str) -> Metric:
    """Return a metric by its key.

    ``sensitivity:CLASS`` is that of one class, ``accuracy@EVALUATION`` that of an evaluation of `EVALUATED`,
    ``utility:N`` that of N real images of each class.
    """
    if key in METRICS:
        return METRICS[key]
    word, at, evaluation = key.partition("@")
    if at and word in EVALUATED:
        found = EVALUATED[word]
        return replace(found, key=key, name=f"{found.name}, {evaluation}")
    word, of_each, count = key.partition(":")
    if of_each and word in _UTILITY:
        found = _UTILITY[word]
        return replace(found, key=key, name=f"{found.name}, {count} real")
    if key == _LOSS.key:
        return _LOSS
    return Metric(
        key,
        key.replace(":", ": "),
        "higher",
        "share",
        "Share of this class's test images classified correctly.",
    )

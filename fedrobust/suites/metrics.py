"""The figures of one cell: what its run folder says, and how that compares with its clean baseline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from fedrobust.evaluation.drop import combined_drop
from fedrobust.results.reported_sizes import told_images
from fedrobust.suites.cells import Cell

__all__ = ["LAST", "METRICS", "costs", "figures", "mean_known"]

#: Figures that each round has are means over so many last rounds: one round alone moves by several points.
LAST = 3

#: Each metric's name, whether more of it is better, its unit, and what it is in a sentence. Shares lie in [0, 1].
METRICS: dict[str, tuple[str, str | None, str, str]] = {
    "accuracy": ("accuracy", "higher", "share", "Share of clean test images that are classified rightly."),
    "balanced_accuracy": ("balanced accuracy", "higher", "share", "Mean sensitivity over the classes."),
    "macro_f1": ("macro F1", "higher", "share", "F1 of each class, averaged over the classes."),
    "macro_precision": ("macro precision", "higher", "share", "Precision of each class, averaged."),
    "macro_recall": (
        "macro recall",
        "higher",
        "share",
        "Recall of each class, averaged; balanced accuracy again.",
    ),
    "auroc": ("AUROC", "higher", "share", "Area under the ROC curve, each class against the rest, averaged."),
    "ece": ("ECE", "lower", "share", "Expected calibration error: how far confidence is from accuracy."),
    "worst_class": ("worst class", "higher", "share", "Sensitivity of the class that fares worst."),
    "worst_hospital": (
        "worst hospital",
        "higher",
        "share",
        (
            "Accuracy on clean test images mixed as the hospital's own, for the hospital that fares worst; the malicious "
            "are left out."
        ),
    ),
    "noisy_accuracy": ("noisy accuracy", "higher", "share", "Accuracy on the noisy test images."),
    "noisy_macro_f1": ("noisy macro F1", "higher", "share", "Macro F1 on the noisy test images."),
    "noisy_macro_precision": (
        "noisy macro precision",
        "higher",
        "share",
        "Macro precision on the noisy test images.",
    ),
    "drop": (
        "combined drop",
        "lower",
        "percent",
        "Mean relative loss of the next three from clean to noisy images.",
    ),
    "drop_accuracy": (
        "accuracy drop",
        "lower",
        "percent",
        "Relative loss of accuracy from clean to noisy images.",
    ),
    "drop_macro_f1": ("F1 drop", "lower", "percent", "Relative loss of macro F1 from clean to noisy images."),
    "drop_macro_precision": (
        "precision drop",
        "lower",
        "percent",
        "Relative loss of macro precision from clean to noisy images.",
    ),
    "attack_success_rate": (
        "attack success",
        "lower",
        "share",
        "Share of stamped test images of other classes that are taken for the backdoor's target.",
    ),
    "lost_to_attack": (
        "lost to the attack",
        "lower",
        "points",
        "Points of accuracy below the clean baseline: the same federation, defence and seed without attackers.",
    ),
    "detection_precision": (
        "flag precision",
        "higher",
        "share",
        "Share of the hospitals flagged in the last round that are malicious.",
    ),
    "detection_recall": (
        "flag recall",
        "higher",
        "share",
        "Share of the malicious flagged in the last round.",
    ),
    "detection_auroc": (
        "detection AUROC",
        "higher",
        "share",
        "Chance that a malicious hospital's mean score exceeds an honest one's.",
    ),
    "false_flags": (
        "false flags",
        "lower",
        "share",
        "Share of the honest hospitals' rounds that were flagged.",
    ),
    "benign_false_flags": (
        "false flags, no attack",
        "lower",
        "share",
        "The same where nobody attacks: in the cell itself or its clean baseline.",
    ),
    "honest_lost": (
        "honest lost",
        "lower",
        "count",
        "Honest hospitals whose last weight is below half of a fair share, or of their share of images if that is less.",
    ),
    "honest_lost_accuracy": (
        "what those lose",
        "lower",
        "points",
        "Points of accuracy on images mixed as their own that those hospitals lose against the clean baseline, averaged.",
    ),
    "attacker_weight": (
        "attackers' weight",
        "lower",
        "share",
        "Share of the last round's weight that attackers have.",
    ),
}

_CLEAN = (
    *("accuracy", "balanced_accuracy", "macro_f1", "macro_precision", "macro_recall", "auroc", "ece"),
    "worst_class",
)
_NOISY = ("accuracy", "macro_f1", "macro_precision")


def figures(cell: Cell, baseline: Cell | None) -> dict[str, float | None]:
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


def costs(cell: Cell) -> dict[str, float | None]:
    """Return seconds of the whole run, of a later round's aggregation (median), and the most extra MiB it took."""
    later = sorted(line["aggregation"] for line in cell.timings if line["round"] and "aggregation" in line)
    # Round 1 also pays for what is allocated once.
    rounds = [line for line in cell.timings if line["round"] > 1] or cell.timings
    memory = [line["defence_mib"] for line in rounds if line.get("defence_mib") is not None]
    return {
        "seconds": cell.summary["seconds"],
        "aggregation_s": later[len(later) // 2] if later else None,
        "defence_mib": max(memory, default=None),
    }


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
    images |= {n: told for n, told in told_images(cell.reports).items() if n not in bad}
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

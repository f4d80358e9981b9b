"""A suite's results as `suite.json` holds them, made up: what the tables, exports and the page are tested on.

Tests change the plain dictionaries as they need; `record` makes the typed record of them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from itertools import product
from typing import Any

import numpy as np

from fedrobust.results.suite_records import SuiteCosts, SuiteResults

THREATS = ("none", "label-flip", "backdoor(size=0.05) + boost", "ipm(scale=2)")
DEFENCES = ("fedavg", "krum", "nnm | trimmed-mean", "isolation-forest", "oracle")
_ORACLE = {"text": "oracle upper bound: knows who is malicious", "excludes": True}
_CLASSES = ("normal", "pneumonia")
_METRICS = (
    (
        "accuracy",
        "accuracy",
        "higher",
        "share",
        "Share of the clean test images that are classified correctly.",
    ),
    ("balanced_accuracy", "balanced accuracy", "higher", "share", "Mean sensitivity over the classes."),
    ("macro_f1", "macro F1", "higher", "share", "F1 of each class, averaged."),
    ("auroc", "AUROC", "higher", "share", "One class against the rest, averaged."),
    ("ece", "calibration error", "lower", "share", "Distance of confidence from accuracy, in 15 bins."),
    ("worst_class", "worst class", "higher", "share", "Sensitivity of the class that fares worst."),
    (
        "worst_hospital",
        "worst hospital",
        "higher",
        "share",
        "Accuracy at the honest hospital that fares worst.",
    ),
    ("noisy_accuracy", "noisy accuracy", "higher", "share", "Accuracy on the test images under noise."),
    ("drop", "combined drop", "lower", "percent", "Mean of the relative drops under noise."),
    ("drop_accuracy", "drop of accuracy", "lower", "percent", "Relative drop of accuracy under noise."),
    ("drop_macro_f1", "drop of macro F1", "lower", "percent", "Relative drop of macro F1 under noise."),
    ("drop_macro_precision", "drop of precision", "lower", "percent", "Relative drop of macro precision."),
    ("attack_success_rate", "attack success", "lower", "share", "Triggered images taken for the target."),
    (
        "lost_to_attack",
        "loss to the clean baseline",
        "lower",
        "percent",
        "Accuracy points lost to the same run unattacked.",
    ),
    (
        "detection_precision",
        "detection precision",
        "higher",
        "share",
        "Flagged hospitals that were malicious.",
    ),
    ("detection_recall", "detection recall", "higher", "share", "Malicious hospitals that were flagged."),
    (
        "detection_auroc",
        "detection AUROC",
        "higher",
        "share",
        "Malicious hospitals scored above honest ones.",
    ),
    ("false_flags", "false flags", "lower", "share", "Honest hospital-rounds flagged."),
    ("benign_false_flags", "false flags, benign", "lower", "share", "The same in the unattacked baseline."),
    (
        "honest_lost",
        "honest hospitals lost",
        "lower",
        "count",
        "Honest hospitals below half a uniform weight.",
    ),
    (
        "honest_lost_accuracy",
        "accuracy that they lose",
        "lower",
        "percent",
        "Points lost by those hospitals.",
    ),
    ("attacker_weight", "attackers' weight", "lower", "share", "Weight of the malicious at the end."),
    ("sensitivity:normal", "sensitivity, normal", "higher", "share", "Share of the class's images found."),
    (
        "sensitivity:pneumonia",
        "sensitivity, pneumonia",
        "higher",
        "share",
        "Share of the class's images found.",
    ),
)


def record(content: dict[str, Any]) -> SuiteResults:
    """Return made-up results as a record, as they are read from the file."""
    return SuiteResults.model_validate_json(json.dumps(content))


def cost_record(content: dict[str, Any]) -> SuiteCosts:
    """Return made-up costs as a record."""
    return SuiteCosts.model_validate_json(json.dumps(content))


def results(
    threats: Sequence[str] = THREATS,
    defences: Sequence[str] = DEFENCES,
    seeds: Sequence[int] = (0, 1, 2),
    *,
    splits: Sequence[str] = (),
    budgets: Sequence[str] = (),
    reference: str | None = "fedavg",
    failed: Collection[tuple[str, str, int]] = (),
    unrun: Collection[tuple[str, str, int]] = (),
) -> dict[str, Any]:
    """Return a suite's results; `splits` and `budgets` add axes, `failed` and `unrun` cells are missing."""
    axes = [{"name": "threat", "labels": list(threats)}]
    axes += [{"name": "partition", "labels": list(splits)}] if splits else []
    axes += [{"name": "malicious", "labels": list(budgets)}] if budgets else []
    axes += [{"name": "defence", "labels": list(defences)}]
    gone = {cell: "WorkerDied: the worker process of the cell ended with signal 9" for cell in failed}
    gone |= dict.fromkeys(unrun)  # type: ignore[arg-type]
    rows = [_row(axes, labels, seeds, gone) for labels in product(*(axis["labels"] for axis in axes))]
    reference = reference if reference in defences else None
    return {
        "name": "defences",
        "title": "Which defence against which threat",
        "about": "Ten hospitals, two of them malicious, under each threat and each defence.",
        "definition": "seeds = [0, 1, 2]\n",
        "command": "python -m fedrobust.benchmark defences",
        "versions": {"fedrobust": "0.1.0", "flwr": "1.41.0", "torch": "2.9.0"},
        "settings": {"clients": 10, "malicious": 2, "rounds": 10, "data": "phantom", "noise_std": 0.01},
        "seeds": list(seeds),
        "axes": axes,
        "format": 2,
        "method_axis": "defence",
        "reference": reference,
        "metrics": [
            dict(zip(("key", "name", "better", "unit", "about"), metric, strict=True)) for metric in _METRICS
        ],
        "rows": rows,
        "comparisons": _comparisons(rows, reference),
        "ranking": _ranking(rows, defences),
        "attack_budget": _budget(threats, defences, budgets) if budgets else None,
        "missing": [
            {"labels": row["labels"], "seed": cell["seed"], "error": cell["error"]}
            for row in rows
            for cell in row["cells"]
            if cell["run"] is None
        ],
        "notes": _notes(seeds),
    }


def costs(given: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what the cells of `results` cost, as `costs.json` holds it; one row has no memory value."""
    rows = []
    for place, row in enumerate((given or results())["rows"]):
        slow = 1 + len(row["labels"]["defence"]) % 7
        memory = None if place == 1 else 0.5 * slow
        rows.append(
            {
                "labels": row["labels"],
                "seconds": 11.5 + slow,
                "aggregation_s": 0.004 * slow,
                "defence_mib": memory,
            }
        )
    return {"rows": rows}


def _row(
    axes: list[dict[str, Any]], labels: Any, seeds: Sequence[int], gone: dict[Any, Any]
) -> dict[str, Any]:
    named = {axis["name"]: label for axis, label in zip(axes, labels, strict=True)}
    place = [axis["labels"].index(label) for axis, label in zip(axes, labels, strict=True)]
    cells = [_cell(named, place, seed, gone) for seed in seeds]
    done = [cell["seed"] for cell in cells if cell["run"] is not None]
    metrics = {}
    for key, _, better, unit, _ in _METRICS:
        values = [_value(key, better, unit, named, place, seed) for seed in done]
        metrics[key] = _estimate(values)
    caveats = [_ORACLE] if named["defence"] == "oracle" else []
    return {"labels": named, "seeds": done, "metrics": metrics, "caveats": caveats, "cells": cells}


def _cell(named: dict[str, str], place: list[int], seed: int, gone: dict[Any, Any]) -> dict[str, Any]:
    name = (named["threat"], named["defence"], seed)
    run = None if name in gone else f"../cells/{place[0]}-{place[-1]}-{seed}-{'-'.join(map(str, place))}"
    return {"seed": seed, "run": run, "error": gone.get(name)}


def _value(
    key: str, better: str, unit: str, named: dict[str, str], place: list[int], seed: int
) -> float | None:
    """Return a value that grows worse with the threat's place and better with the defence's."""
    if key == "attack_success_rate" and "backdoor" not in named["threat"]:
        return None
    unattacked = named["threat"] == "none" or named.get("malicious") == "0"
    if unattacked and (key in ("lost_to_attack", "attacker_weight") or key.startswith("detection")):
        return None
    if named["defence"] == "fedavg" and (key.startswith("detection") or "false_flags" in key):
        return None
    harm = 0.08 * place[0] / (1 + place[-1])
    harm += 0.03 * sum(place[1:-1]) / (1 + place[-1])
    noise = np.random.default_rng([seed, *place, len(key)]).normal(0, 0.012)
    if unit == "count":
        return float(round(4 * harm + abs(noise) * 20))
    good = float(np.clip(0.86 - harm + noise, 0, 1))
    value = good if better == "higher" else 1 - good
    return 100 * (value - 0.1) if unit == "percent" else value


def _estimate(values: Sequence[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    if not known:
        return {"mean": None, "low": None, "high": None, "values": list(values)}
    low, high = (min(known), max(known)) if len(known) >= 3 else (None, None)
    return {"mean": float(np.mean(known)), "low": low, "high": high, "values": list(values)}


def _comparisons(rows: list[dict[str, Any]], reference: str | None) -> list[dict[str, Any]]:
    found = []
    for row in rows:
        if reference is None or row["labels"]["defence"] == reference:
            continue
        against = next(r for r in rows if r["labels"] == {**row["labels"], "defence": reference})
        for key in ("accuracy", "drop", "attack_success_rate"):
            pairs = _pairs(row, against, key)
            if not pairs:
                continue
            estimate = _estimate(pairs)
            enough = len(pairs) >= 3
            found.append(
                {
                    "labels": row["labels"],
                    "metric": key,
                    "against": reference,
                    "difference": estimate["mean"],
                    "low": estimate["low"],
                    "high": estimate["high"],
                    "p": 2.0 ** (1 - len(pairs)) if enough else None,
                    "p_holm": min(1.0, 12 * 2.0 ** (1 - len(pairs))) if enough else None,
                    "seeds": len(pairs),
                }
            )
    return found


def _pairs(row: dict[str, Any], against: dict[str, Any], key: str) -> list[float]:
    of = [dict(zip(r["seeds"], r["metrics"][key]["values"], strict=True)) for r in (row, against)]
    both = [(of[0][s], of[1][s]) for s in of[0] if s in of[1]]
    return [a - b for a, b in both if a is not None and b is not None]


def _ranking(rows: list[dict[str, Any]], defences: Sequence[str], sign: int = 1) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for defence in defences:
        own = [row for row in rows if row["labels"]["defence"] == defence]
        known = [(row["metrics"]["accuracy"]["mean"], _condition(row)) for row in own]
        known = [pair for pair in known if pair[0] is not None]
        complete = len(known) == len(own)
        worst, under = min(known) if complete else (None, None)
        mean = float(np.mean([value for value, _ in known])) if complete else None
        caveats = dict.fromkeys(c["text"] for row in own for c in row["caveats"] if c["excludes"])
        gap = [] if complete else ["some conditions are missing"]
        entry = {"label": defence, "mean": mean, "worst": worst, "worst_under": under}
        entries.append({**entry, "caveats": [*caveats, *gap]})
    ranked = [entry for entry in entries if not entry["caveats"] and entry["worst"] is not None]
    for name, rank in (("mean", "rank_by_mean"), ("worst", "rank_by_worst")):
        order = sorted(ranked, key=lambda e: -sign * e[name])
        for entry in entries:
            entry[rank] = float(order.index(entry) + 1) if entry in ranked else None
    for entry in entries:
        entry["mean_rank"] = entry["rank_by_mean"]
    return sorted(entries, key=lambda entry: (entry["rank_by_worst"] is None, entry["rank_by_worst"]))


def _condition(row: dict[str, Any]) -> str:
    return " · ".join(label for axis, label in row["labels"].items() if axis != "defence")


def _budget(threats: Sequence[str], defences: Sequence[str], budgets: Sequence[str]) -> dict[str, Any]:
    smallest: list[dict[str, Any]] = [
        {
            "labels": {"threat": threat, "defence": defence},
            "unknown": [],
            "budget": float(budgets[min(place, len(budgets) - 1)])
            if place < len(budgets) and threat != "none"
            else None,
        }
        for threat in threats
        for place, defence in enumerate(defences)
    ]
    return {"axis": "malicious", "drop": 5.0, "metric": "accuracy", "smallest": smallest}


def _notes(seeds: Sequence[int]) -> list[str]:
    notes = ["The images are synthetic (phantom): no metric here says anything about patients."]
    if len(seeds) < 3:
        notes.append(f"{len(seeds)} seed(s): no interval and no test is given below 3 seeds.")
    return notes

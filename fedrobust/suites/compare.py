"""Methods of a suite side by side: paired differences, ranks, and the smallest budget that does stated damage."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from fedrobust.evaluation.metrics import metric_of
from fedrobust.evaluation.statistics import bootstrap_interval, holm, ranks, sign_flip_test
from fedrobust.suites.caveats import is_bound
from fedrobust.suites.metrics import mean_known
from fedrobust.suites.plan import Planned
from fedrobust.suites.suite import Suite

__all__ = ["FEW", "attack_budget_of", "comparisons", "ranking", "reference_of"]

#: Metrics whose differences to the reference are tested; Holm's correction runs over the table of each.
COMPARED = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "auroc",
    "worst_class",
    "worst_hospital",
    "drop",
    "lost_to_attack",
)
#: Fewer seeds give no interval and no test.
FEW = 3

Figures = Mapping[str, float | None]


def comparisons(
    suite: Suite,
    by_row: Mapping[tuple[str, ...], Sequence[Planned]],
    measured: Mapping[Any, Figures],
    reference: str | None,
    rows: Sequence[Mapping[str, Any]],
    keys: Sequence[str],
) -> list[dict[str, Any]]:
    """Return the differences to the reference, paired by seed; an oracle's is shown but not tested."""
    if reference is None:
        return []
    found = []
    for metric in (key for key in COMPARED if key in keys):
        table = []
        for row in rows:
            labels = row["labels"]
            if labels[suite.compared_axis] == reference:
                continue
            other = tuple({**labels, suite.compared_axis: reference}.values())
            key = tuple(labels.values())
            differences = [
                ours - theirs
                for cell in by_row[key]
                if (ours := measured.get((key, cell.seed), {}).get(metric)) is not None
                and (theirs := measured.get((other, cell.seed), {}).get(metric)) is not None
            ]
            if differences:
                table.append(_difference(labels, metric, reference, differences, is_bound(row)))
        for line, adjusted in zip(table, holm([line["p"] for line in table]), strict=True):
            line["p_holm"] = adjusted
        found += table
    return found


def _difference(
    labels: Mapping[str, str], metric: str, against: str, differences: Sequence[float], bound: bool
) -> dict[str, Any]:
    enough = len(differences) >= FEW
    low, high = (enough and bootstrap_interval(differences)) or (None, None)
    return {
        "labels": dict(labels),
        "metric": metric,
        "against": against,
        "difference": fmean(differences),
        "low": low,
        "high": high,
        "p": sign_flip_test(differences) if enough and not bound else None,
        "p_holm": None,
        "seeds": len(differences),
    }


def ranking(suite: Suite, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each method's place by its worst condition and by the mean over them; bounds have no place."""
    metric, axis = suite.metric, suite.compared_axis
    if not axis:
        return []
    higher = metric_of(metric).better != "lower"
    worst: Callable[..., Any] = min if higher else max
    conditions = _ranked_in(suite, rows)
    tables: dict[str, dict[tuple[str, ...], float | None]] = defaultdict(dict)
    caveats: dict[str, dict[str, None]] = defaultdict(dict)
    for row in rows:
        label = row["labels"][axis]
        tables[label][_condition(suite, row["labels"])] = row["metrics"].get(metric, {}).get("mean")
        caveats[label] |= {caveat: None for caveat in row["caveats"] if caveat.startswith("oracle")}
    lines = []
    for label, table in tables.items():
        values = {condition: value for condition in conditions if (value := table.get(condition)) is not None}
        whole = len(values) == len(conditions) > 0
        at = worst(values, key=lambda condition: values[condition]) if whole else None
        lines.append(
            {
                "label": label,
                "mean": fmean(values.values()) if whole else None,
                "worst": values[at] if at is not None else None,
                "worst_under": " · ".join(at) if at else None,
                "caveats": [*caveats[label], *([] if whole else ["some conditions are missing"])],
            }
        )
    _place(lines, tables, conditions, higher)
    return lines


def _ranked_in(suite: Suite, rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return the conditions in which the metric has a meaning: all but those whose finished runs all lack it.

    Nobody can find attackers where nobody attacks.
    """
    meant: dict[tuple[str, ...], bool] = {}
    for row in rows:
        known = row["metrics"].get(suite.metric, {}).get("mean") is not None
        condition = _condition(suite, row["labels"])
        meant[condition] = meant.get(condition, False) or known or not row["seeds"]
    return [condition for condition, so in meant.items() if so]


def _place(
    lines: list[dict[str, Any]],
    tables: Mapping[str, Mapping[tuple[str, ...], float | None]],
    conditions: Sequence[tuple[str, ...]],
    higher: bool,
) -> None:
    """Give the methods that have all conditions and are no bounds their ranks."""
    racing = [line for line in lines if line["mean"] is not None and not line["caveats"]]
    places = {
        condition: ranks([tables[line["label"]][condition] for line in racing], higher)
        for condition in conditions
    }
    columns = {
        "rank_by_mean": ranks([line["mean"] for line in racing], higher),
        "rank_by_worst": ranks([line["worst"] for line in racing], higher),
        "mean_rank": [mean_known(column[i] for column in places.values()) for i in range(len(racing))],
    }
    for line in lines:
        line |= dict.fromkeys(columns)
    for i, line in enumerate(racing):
        line |= {key: values[i] for key, values in columns.items()}


def attack_budget_of(suite: Suite, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the smallest budget at which a configuration has lost the stated points against its clean baseline.

    Smaller budgets of which nothing is known, as a run or its baseline is missing, are named beside it.
    """
    if not suite.budget_axis:
        return None
    ladders: dict[tuple[tuple[str, str], ...], list[tuple[float, float | None]]] = defaultdict(list)
    for row in rows:
        rest = tuple((axis, label) for axis, label in row["labels"].items() if axis != suite.budget_axis)
        loss = row["metrics"].get("lost_to_attack", {}).get("mean")
        ladders[rest].append((float(row["labels"][suite.budget_axis]), loss))
    smallest = []
    for rest, ladder in ladders.items():
        # A mean that equals the drop but for rounding has reached it.
        reached = [budget for budget, loss in ladder if loss is not None and loss >= suite.drop - 1e-9]
        first = min(reached, default=None)
        unknown = sorted(
            budget for budget, loss in ladder if loss is None and (first is None or budget < first)
        )
        smallest.append({"labels": dict(rest), "budget": first, "unknown": unknown})
    return {"axis": suite.budget_axis, "drop": suite.drop, "metric": "lost_to_attack", "smallest": smallest}


def _condition(suite: Suite, labels: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(label for axis, label in labels.items() if axis != suite.compared_axis)


def reference_of(suite: Suite, cells: Sequence[Planned]) -> str | None:
    """Return the label to compare with: the file's, or the one that is plain FedAvg, or the first."""
    axis = suite.compared_axis
    if suite.reference or not axis:
        return suite.reference or None
    labels = list(dict.fromkeys(cell.labels[axis] for cell in cells))
    plain_mean = [cell.labels[axis] for cell in cells if cell.settings.strategy == "fedavg"]
    always = [
        label for label in labels if plain_mean.count(label) == sum(c.labels[axis] == label for c in cells)
    ]
    return (always or labels)[0] if len(labels) > 1 else None

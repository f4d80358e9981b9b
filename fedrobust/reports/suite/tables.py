"""The smaller tables of a suite's page: the ranking, what methods cost, the smallest harmful budget, what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedrobust.reports.suite.view import SuiteView, digits
from fedrobust.reports.tables import Column, Table

__all__ = ["budget_table", "cost_table", "missing", "ranking_table"]


def ranking_table(view: SuiteView) -> Table:
    """Return the ranking, best worst case first; marked methods last, without ranks."""
    entries = view.results["ranking"]
    bounds = [entry for entry in entries if entry["label"] in view.bounds]
    table = []
    for entry in sorted(
        entries, key=lambda e: (e in bounds, e["worst"] is None, -view.sign * (e["worst"] or 0.0))
    ):
        ranks = [_rank(entry, bounds, key) for key in ("worst", "mean")]
        own = dict.fromkeys([*(entry.get("caveats") or ()), *view.bound_caveats(entry["label"])])
        line = [entry["label"], entry["worst"], entry.get("worst_under"), ranks[0], entry["mean"], ranks[1]]
        table.append([*line, None if entry in bounds else entry.get("mean_rank"), "; ".join(own)])
    columns = [
        Column(view.method_axis),
        Column("worst case", digits(view.unit)),
        Column("worst under"),
        Column("rank by worst case"),
        Column("mean", digits(view.unit)),
        Column("rank by mean"),
        Column("mean of its ranks", 2),
        *([Column("no rank, since")] if bounds else []),
    ]
    table = table if bounds else [line[:-1] for line in table]
    over = f" over {len(view.conditions)} conditions" if len(view.conditions) > 1 else ""
    return Table(f"Ranked by {view.measure}{over}; 1 is best.", columns, table)


def cost_table(view: SuiteView) -> Table:
    """Return what each method costs, beside what it leaves in the worst case."""
    worst = {entry["label"]: entry["worst"] for entry in view.results["ranking"]}
    table = [
        [
            method,
            *(view.cost(method, key) for key in ("aggregation_s", "defence_mib")),
            worst.get(method),
        ]
        for method in view.methods
    ]
    for line in table:
        line[1] = None if line[1] is None else 1000 * line[1]
    columns = [
        Column(view.method_axis),
        Column("aggregation, ms a round", 2),
        Column("extra memory, MiB", 1),
        Column("worst case", digits(view.unit)),
    ]
    return Table("Mean time and peak memory of the aggregation over all runs.", columns, table)


def budget_table(view: SuiteView) -> Table:
    """Return the smallest budget that costs the stated drop: methods by the conditions that are left."""
    budget = view.results["attack_budget"]
    others = [axis["name"] for axis in view.axes if axis["name"] != budget["axis"]]
    found: dict[str, dict[str, Any]] = {}
    for entry in budget["smallest"]:
        other = " · ".join(str(entry["labels"][name]) for name in others if name in entry["labels"])
        found.setdefault(other, {})[view.method(entry["labels"])] = entry
    table = [
        [method, *(_budget(budgets, method) for budgets in found.values())]
        for method in view.methods
        if any(method in budgets for budgets in found.values())
    ]
    caption = f"The smallest {budget['axis']} that costs {budget['drop']:g} points or more."
    return Table(
        caption, [view.method_axis, *(other or f"smallest {budget['axis']}" for other in found)], table
    )


def missing(view: SuiteView) -> Table:
    """Return the cells without a finished run, and why."""
    names = [axis["name"] for axis in view.results["axes"]]
    table = [
        [
            *(str(entry["labels"].get(name, "")) for name in names),
            entry["seed"],
            whose + (entry.get("error") or "not run yet"),
        ]
        for whose, gaps in (("", "missing"), ("clean baseline: ", "missing_baselines"))
        for entry in view.results.get(gaps, ())
    ]
    return Table("Cells without a finished run.", [*names, "seed", "error"], table)


def _rank(entry: Mapping[str, Any], bounds: Sequence[Mapping[str, Any]], key: str) -> float | int | None:
    """Return a rank among those that are no bounds, whether or not the suite ranked the bounds too."""
    rank = entry[f"rank_by_{key}"]
    if rank is None or entry in bounds:
        return None
    ranks = [other[f"rank_by_{key}"] for other in bounds if other[f"rank_by_{key}"] is not None]
    own = rank - sum(1.0 if other < rank else 0.5 if other == rank else 0.0 for other in ranks)
    return int(own) if float(own).is_integer() else float(own)


def _budget(budgets: Mapping[str, Any], method: str) -> Any:
    if method not in budgets:
        return None
    budget, unknown = budgets[method]["budget"], budgets[method].get("unknown")
    if budget is None:
        return "not known" if unknown else "none tried"
    return f"≤ {budget:g}" if unknown else budget

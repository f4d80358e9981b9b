"""The smaller tables of a suite's page: ranking, costs, smallest harmful attack budgets, missing cells."""

from __future__ import annotations

from fedrobust.evaluation.metrics import decimals
from fedrobust.reports.suite.view import SuiteView
from fedrobust.reports.tables import Column, Table
from fedrobust.results.suite_records import AttackBudget, SmallestBudget

__all__ = ["budget_table", "cost_table", "missing", "ranking_table"]


def ranking_table(view: SuiteView) -> Table:
    """Return the ranking, best worst case first; marked methods last, without ranks."""
    entries = sorted(
        view.results.ranking,
        key=lambda e: (
            (0, e.rank_by_worst or 0.0)
            if e.ranked
            else (1 + (e.worst is None), -view.sign * (e.worst or 0.0))
        ),
    )
    table = [
        [
            *(entry.label, entry.worst, entry.worst_under, _rank(entry.rank_by_worst)),
            *(entry.mean, _rank(entry.rank_by_mean), entry.mean_rank, "; ".join(entry.caveats)),
        ]
        for entry in entries
    ]
    columns = [
        Column(view.method_axis),
        Column("worst case", decimals(view.unit)),
        Column("worst under"),
        Column("rank by worst case"),
        Column("mean", decimals(view.unit)),
        Column("rank by mean"),
        Column("mean of its ranks", 2),
        *([Column("not ranked, since")] if view.unranked else []),
    ]
    table = table if view.unranked else [line[:-1] for line in table]
    over = f" over {len(view.conditions)} conditions" if len(view.conditions) > 1 else ""
    return Table(f"Ranked by {view.measure}{over}; 1 is best.", columns, table)


def cost_table(view: SuiteView) -> Table:
    """Return what each method costs, beside what it leaves in the worst case."""
    worst = {entry.label: entry.worst for entry in view.results.ranking}
    table = []
    for method in view.methods:
        seconds = view.cost(method, "aggregation_s")
        milliseconds = None if seconds is None else 1000 * seconds
        table.append([method, milliseconds, view.cost(method, "defence_mib"), worst.get(method)])
    columns = [
        Column(view.method_axis),
        Column("aggregation, ms a round", 2),
        Column("extra memory, MiB", 1),
        Column("worst case", decimals(view.unit)),
    ]
    return Table("Mean time and peak memory of the aggregation over all runs.", columns, table)


def budget_table(view: SuiteView, budget: AttackBudget) -> Table:
    """Return the smallest attack budget that costs the stated drop: methods by the other conditions."""
    others = [axis.name for axis in view.axes if axis.name != budget.axis]
    found: dict[str, dict[str, SmallestBudget]] = {}
    for entry in budget.smallest:
        other = " · ".join(entry.labels[name] for name in others if name in entry.labels)
        found.setdefault(other, {})[view.method(entry.labels)] = entry
    table = [
        [method, *(_budget(entries.get(method)) for entries in found.values())]
        for method in view.methods
        if any(method in entries for entries in found.values())
    ]
    caption = f"The smallest {budget.axis} that costs {budget.drop:g} points or more."
    return Table(caption, [view.method_axis, *(other or f"smallest {budget.axis}" for other in found)], table)


def missing(view: SuiteView) -> Table:
    """Return the cells without a finished run, and why."""
    names = [axis.name for axis in view.results.axes]
    gaps = (("", view.results.missing), ("clean baseline: ", view.results.missing_baselines))
    table: list[list[str | int]] = [
        [
            *(gap.labels.get(name, "") for name in names),
            gap.seed,
            prefix + (gap.error or "not run yet"),
        ]
        for prefix, found in gaps
        for gap in found
    ]
    return Table("Cells without a finished run.", [*names, "seed", "error"], table)


def _rank(rank: float | None) -> float | int | None:
    return int(rank) if rank is not None and rank.is_integer() else rank


def _budget(entry: SmallestBudget | None) -> str | float | None:
    if entry is None:
        return None
    if entry.budget is None:
        return "not known" if entry.unknown else "none tried"
    return f"≤ {entry.budget:g}" if entry.unknown else entry.budget

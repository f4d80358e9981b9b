"""The page of a suite, from its files alone: which method is best, with which certainty and at what cost."""

from __future__ import annotations

import json
from pathlib import Path

from fedrobust.reports.page import render
from fedrobust.reports.palette import Plots
from fedrobust.reports.suite.grids import image_grids
from fedrobust.reports.suite.plots import budget_plot, cost_plot
from fedrobust.reports.suite.reading import reading, sense, side, test_limit
from fedrobust.reports.suite.rows import differences, rows, script_data, shown
from fedrobust.reports.suite.tables import budget_table, cost_table, missing, ranking_table
from fedrobust.reports.suite.view import SuiteView, interval_text, load_suite, text
from fedrobust.reports.suite.wording import facts, headline
from fedrobust.results.suite_records import AttackBudget, Estimate

__all__ = ["suite_page"]


def suite_page(folder: Path) -> str:
    """Return a suite's page.

    Parameters
    ----------
    folder : Path
        Holds ``suite.json`` and, if costs were measured, ``costs.json``. Links to runs start here.

    Returns
    -------
    str
        One HTML file.
    """
    view = load_suite(folder)
    made, compared = rows(view), differences(view)
    cost = cost_plot(view)
    plots: Plots = {"cost": cost} if cost else {}
    budget = _drawn_budget(view)
    if budget:
        plots["budget"] = budget_plot(view, budget)
    return render(
        "suite.html.j2",
        plots=plots,
        data={"suite": script_data(view, made, compared)},
        scripts=("suite.js",),
        styles=("suite.css",),
        suite=view.results,
        view=view,
        headline=headline(view),
        facts=facts(view),
        reading=reading(view),
        rows=made,
        by_place={(row["condition"], row["method"]): number for number, row in enumerate(made)},
        shown=shown(view),
        compared=compared,
        ranking=ranking_table(view),
        costs=cost_table(view),
        budgets=budget_table(view, budget) if budget else None,
        grids=image_grids(view, folder),
        missing=missing(view),
        settings=json.dumps(view.results.settings, indent=2, ensure_ascii=False),
        sense={key: sense(metric) for key, metric in view.metrics.items()},
        side={key: side(metric, view.results.reference) for key, metric in view.metrics.items()},
        test=test_limit(view),
        text=text,
        interval=lambda found, unit: (
            interval_text(Estimate(low=found[1], high=found[2]), unit) if found else "–"
        ),
    )


def _drawn_budget(view: SuiteView) -> AttackBudget | None:
    """Return the attack budget if damage can be drawn against it."""
    budget = view.results.attack_budget
    drawn = budget is not None and budget.metric in view.metrics and budget.axis != view.axis
    return budget if drawn else None

"""The plots of a suite's page: cost against robustness, and damage against the budget."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10
from typing import NamedTuple

from fedrobust.evaluation.metrics import decimals
from fedrobust.reports.palette import LINES, Axis, Choices, Plot, Trace, axis, figure, label, line
from fedrobust.reports.suite.view import NARROWEST, SuiteView
from fedrobust.results.suite_records import AttackBudget
from fedrobust.results.suite_table import TIE, Condition

__all__ = ["COSTS", "budget_plot", "cost_plot"]

#: A method's costs: the choice's name, the key in ``costs.json``, the unit's factor, the least value drawn.
COSTS = (
    ("aggregation, milliseconds a round", "aggregation_s", 1000.0, 0.01),
    ("extra memory, MiB at its peak", "defence_mib", 1.0, 0.1),
)


class _Point(NamedTuple):
    """A method's cost and its worst case."""

    x: float
    y: float
    label: str
    ranked: bool
    under: str


def cost_plot(view: SuiteView) -> Choices | None:
    """Return cost against the worst case, a choice for each cost; None if no cost is known."""
    choices: dict[str, Plot] = {}
    for name, key, factor, least in COSTS:
        points = _cost_points(view, key, factor, least)
        if points:
            choices[name] = figure(
                [*_front(points, view.sign), *_groups(view, points, name)],
                height=440,
                showlegend=False,
                margin={"t": 36, "r": 24},
                xaxis=_cost_axis(name, points),
                yaxis=_value_axis(view, points),
            )
    return {"choices": choices} if choices else None


def budget_plot(view: SuiteView, budget: AttackBudget) -> Choices:
    """Return the metric against the attack budget, a line a method, and a choice for each other condition."""
    place = [part.name for part in view.axes].index(budget.axis)
    others = dict.fromkeys(condition[:place] + condition[place + 1 :] for condition in view.conditions)
    metric = view.metrics[budget.metric]
    choices: dict[str, Plot] = {}
    for other in sorted(others, key=lambda labels: not _matters(view, budget, labels)):
        traces = [
            _budget_trace(view, budget, other, place, method, number)
            for number, method in enumerate(view.methods)
        ]
        choices[" · ".join(other) or "all"] = figure(
            traces,
            height=480,
            hovermode="x unified",
            # Anchored to the drawing: above the axes it would overlap the lines when a phone is turned.
            legend={"yref": "container", "y": 1, "yanchor": "top"},
            xaxis=axis(label(budget.axis, 40), type="category"),
            yaxis=axis(
                f"{label(metric.name, 40)}{', points' if metric.unit == 'points' else ''}",
                zeroline=False,
            ),
        )
    return {"choices": choices}


def _cost_points(view: SuiteView, key: str, factor: float, least: float) -> list[_Point]:
    """Return a point for each method with known cost and worst case; a logarithmic axis cannot show 0."""
    entries = {entry.label: entry for entry in view.results.ranking}
    points = []
    for method in view.methods:
        cost, entry = view.cost(method, key), entries.get(method)
        if cost is None or entry is None or entry.worst is None:
            continue
        under = entry.worst_under or ""
        points.append(_Point(max(cost * factor, least), entry.worst, method, entry.ranked, under))
    return points


def _groups(view: SuiteView, points: Sequence[_Point], name: str) -> list[Trace]:
    """Return the points as traces: ranked methods filled, others hollow."""
    places = decimals(view.unit)
    traces = []
    for ranked in (True, False):
        chosen = [point for point in points if point.ranked is ranked]
        if not chosen:
            continue
        traces.append(
            {
                "type": "scatter",
                "mode": "markers+text",
                "x": [point.x for point in chosen],
                "y": [point.y for point in chosen],
                "text": [label(point.label) + ("" if ranked else " (not ranked)") for point in chosen],
                "customdata": [label(point.under) for point in chosen],
                "textposition": ["top center"] * len(chosen),
                "cliponaxis": False,
                "marker": {
                    "size": 11,
                    "symbol": "circle" if ranked else "diamond-open",
                    "line": {"width": 0 if ranked else 2},
                },
                "hovertemplate": (
                    f"%{{text}}<br>%{{y:.{places}f}} in the worst case, %{{customdata}}<br>"
                    f"{name}: %{{x:.3~g}}<extra></extra>"
                ),
                "meta": {
                    "labels": True,
                    "colours": {
                        "marker.color": "accent" if ranked else "muted",
                        "textfont.color": "ink" if ranked else "muted",
                    },
                },
            }
        )
    return traces


def _front(points: Sequence[_Point], sign: int) -> list[Trace]:
    """Return a line through the methods that no other beats in both cost and worst case."""
    best: list[_Point] = []
    for point in sorted((p for p in points if p.ranked), key=lambda p: (p.x, -sign * p.y)):
        if not best or sign * point.y > sign * best[-1].y + TIE:
            best.append(point)
    if len(best) < 2:
        return []
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [point.x for point in best],
            "y": [point.y for point in best],
            "line": {"shape": "hv", "width": 1.5, "dash": "dot"},
            "hoverinfo": "skip",
            "meta": {"colours": {"line.color": "muted"}},
        }
    ]


def _value_axis(view: SuiteView, points: Sequence[_Point]) -> Axis:
    """Return the axis of the worst case; values that differ by rounding alone are not drawn apart."""
    title = f"{label(view.measure, 40)} in the worst case"
    low, high = (pick(point.y for point in points) for pick in (min, max))
    least = NARROWEST.get(view.unit, 1.0)
    if high - low >= least / 10:
        return axis(title, zeroline=False)
    middle = (low + high) / 2
    ends = [middle - least / 2, middle + least / 2]
    return axis(title, zeroline=False, range=ends, tickformat=f".{decimals(view.unit)}~f")


def _cost_axis(name: str, points: Sequence[_Point]) -> Axis:
    """Return the logarithmic axis, with room for the outermost labels and ticks as decimal numbers."""
    low, high = (log10(pick(point.x for point in points)) for pick in (min, max))
    room = max(0.12 * (high - low), 0.15)
    steps = (1, 2, 5) if high - low < 2.5 else (1,)
    values = [
        step * 10.0**power for power in range(floor(low - room), ceil(high + room) + 1) for step in steps
    ]
    ticks = [f"{value:g}" for value in values]
    return axis(name, type="log", range=[low - room, high + room], tickvals=values, ticktext=ticks)


def _matters(view: SuiteView, budget: AttackBudget, other: Condition) -> bool:
    """Return whether any attack budget does the stated damage there."""
    names = [part.name for part in view.axes if part.name != budget.axis]
    return any(
        entry.budget is not None and tuple(entry.labels.get(name) for name in names) == other
        for entry in budget.smallest
    )


def _budget_trace(
    view: SuiteView, budget: AttackBudget, other: Condition, place: int, method: str, number: int
) -> Trace:
    """Return one method's line; its interval as bars, where there is one."""
    steps = view.axes[place].labels
    found = [view.estimate((*other[:place], step, *other[place:]), method, budget.metric) for step in steps]
    bars = [
        (None, None)
        if estimate.mean is None or estimate.low is None or estimate.high is None
        else (estimate.high - estimate.mean, estimate.mean - estimate.low)
        for estimate in found
    ]
    made = line(
        label(method), steps, [estimate.mean for estimate in found], number, hovertemplate="%{y:.3~f}"
    )
    # The styles repeat after six lines: hollow markers from there on.
    made["marker"]["symbol"] += "-open" * (number // len(LINES) % 2)
    return {
        **made,
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [up for up, _ in bars],
            "arrayminus": [down for _, down in bars],
            "thickness": 1,
            "width": 3,
        },
    }

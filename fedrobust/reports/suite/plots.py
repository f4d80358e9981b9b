"""The plots of a suite's page: cost against robustness, and damage against the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, floor, log10
from typing import Any

from fedrobust.reports.palette import LINES, axis, figure, label, line
from fedrobust.reports.suite.view import SuiteView, digits
from fedrobust.results.suite_records import AttackBudget
from fedrobust.results.suite_table import Condition

__all__ = ["COSTS", "budget_plot", "cost_figure"]

#: What a method costs: the choice's name, the key in ``costs.json``, the factor of the unit, the smallest that is drawn.
COSTS = (
    ("aggregation, milliseconds a round", "aggregation_s", 1000.0, 0.01),
    ("extra memory, MiB at its peak", "defence_mib", 1.0, 0.1),
)


def cost_figure(view: SuiteView) -> dict[str, Any] | None:
    """Return cost against what is left in the worst case, a choice for each cost; None if no cost is known."""
    choices = {}
    for name, key, factor, least in COSTS:
        points = _cost_points(view, key, factor, least)
        if points:
            choices[name] = figure(
                [*_front(points, view.sign), *_groups(view, points, name)],
                height=440,
                showlegend=False,
                margin={"t": 16, "r": 24},
                xaxis=axis(name, type="log", **_ticks(points)),
                yaxis=axis(f"{label(view.measure, 40)} in the worst case", zeroline=False),
            )
    return {"choices": choices} if choices else None


def budget_plot(view: SuiteView, budget: AttackBudget) -> dict[str, Any]:
    """Return the metric against the budget, a line for each method; a choice for each of the other axes' labels."""
    place = [part.name for part in view.axes].index(budget.axis)
    others = dict.fromkeys(condition[:place] + condition[place + 1 :] for condition in view.conditions)
    metric = view.metrics[budget.metric]
    choices = {}
    for other in sorted(others, key=lambda labels: not _matters(view, budget, labels)):
        traces = [
            _budget_trace(view, budget, other, place, method, number)
            for number, method in enumerate(view.methods)
        ]
        choices[" · ".join(other) or "all"] = figure(
            traces,
            height=480,
            hovermode="x unified",
            # Held to the drawing's edge: one above the axes is left behind among the lines when a phone is turned.
            legend={"yref": "container", "y": 1, "yanchor": "top"},
            xaxis=axis(label(budget.axis, 40), type="category"),
            yaxis=axis(
                f"{label(metric.name, 40)}{', points' if metric.unit == 'points' else ''}",
                zeroline=False,
            ),
        )
    return {"choices": choices}


def _cost_points(view: SuiteView, key: str, factor: float, least: float) -> list[dict[str, Any]]:
    """Return a point for each method whose cost and worst case are known; a logarithm has no place for 0."""
    entries = {entry.label: entry for entry in view.results.ranking}
    points = []
    for method in view.methods:
        cost, entry = view.cost(method, key), entries.get(method)
        if cost is None or entry is None or entry.worst is None:
            continue
        points.append(
            {
                "x": max(cost * factor, least),
                "y": entry.worst,
                "label": method,
                "unranked": method in view.unranked,
                "under": entry.worst_under or "",
            }
        )
    return points


def _groups(view: SuiteView, points: Sequence[Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
    """Return the points as traces: ranked methods filled, others hollow."""
    places = digits(view.unit)
    traces = []
    for unranked in (False, True):
        chosen = [point for point in points if point["unranked"] is unranked]
        if not chosen:
            continue
        traces.append(
            {
                "type": "scatter",
                "mode": "markers+text",
                "x": [point["x"] for point in chosen],
                "y": [point["y"] for point in chosen],
                "text": [label(point["label"]) + (" (not ranked)" if unranked else "") for point in chosen],
                "customdata": [label(point["under"]) for point in chosen],
                "textposition": ["top center"] * len(chosen),
                "cliponaxis": False,
                "marker": {
                    "size": 11,
                    "symbol": "diamond-open" if unranked else "circle",
                    "line": {"width": 2 if unranked else 0},
                },
                "hovertemplate": f"%{{text}}<br>%{{y:.{places}f}} in the worst case, %{{customdata}}<br>{name}: %{{x:.3~g}}<extra></extra>",
                "meta": {
                    "labels": True,
                    "colours": {
                        "marker.color": "muted" if unranked else "accent",
                        "textfont.color": "muted" if unranked else "ink",
                    },
                },
            }
        )
    return traces


def _front(points: Sequence[Mapping[str, Any]], sign: int) -> list[dict[str, Any]]:
    """Return a line through the methods that nobody beats in both cost and worst case."""
    best: list[Mapping[str, Any]] = []
    for point in sorted((p for p in points if not p["unranked"]), key=lambda p: (p["x"], -sign * p["y"])):
        if not best or sign * point["y"] > sign * best[-1]["y"]:
            best.append(point)
    if len(best) < 2:
        return []
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [point["x"] for point in best],
            "y": [point["y"] for point in best],
            "line": {"shape": "hv", "width": 1.5, "dash": "dot"},
            "hoverinfo": "skip",
            "meta": {"colours": {"line.color": "muted"}},
        }
    ]


def _ticks(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the ends of the axis, with room for the outermost labels, and ticks that are written out."""
    low, high = (log10(pick(point["x"] for point in points)) for pick in (min, max))
    room = max(0.12 * (high - low), 0.15)
    steps = (1, 2, 5) if high - low < 2.5 else (1,)
    values = [
        step * 10.0**power for power in range(floor(low - room), ceil(high + room) + 1) for step in steps
    ]
    return {
        "range": [low - room, high + room],
        "tickvals": values,
        "ticktext": [f"{value:g}" for value in values],
    }


def _matters(view: SuiteView, budget: AttackBudget, other: Condition) -> bool:
    """Return whether any attack budget does the stated damage there."""
    names = [part.name for part in view.axes if part.name != budget.axis]
    return any(
        entry.budget is not None and tuple(entry.labels.get(name) for name in names) == other
        for entry in budget.smallest
    )


def _budget_trace(
    view: SuiteView, budget: AttackBudget, other: Condition, place: int, method: str, number: int
) -> dict[str, Any]:
    """Return one method's line; its interval as bars, where there is one."""
    steps = view.axes[place].labels
    found = [view.spread((*other[:place], step, *other[place:]), method, budget.metric) for step in steps]
    bars = [
        (None, None)
        if spread.mean is None or spread.low is None or spread.high is None
        else (spread.high - spread.mean, spread.mean - spread.low)
        for spread in found
    ]
    made = line(label(method), steps, [spread.mean for spread in found], number, hovertemplate="%{y:.3~f}")
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

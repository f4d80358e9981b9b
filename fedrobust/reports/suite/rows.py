"""Every figure of a suite's page as its template and its script read it: any metric can be chosen there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedrobust.reports.suite.reading import sense, side
from fedrobust.reports.suite.view import SuiteView, digits, run_link, shade
from fedrobust.results.suite_table import Condition

__all__ = ["Row", "differences", "rows", "script_data", "shown"]

#: What the script and the template read of one row.
Row = dict[str, Any]

#: The metrics of the table of all figures that are shown at first.
_SHOWN = (
    "lost_to_attack",
    "accuracy",
    "worst_class",
    "worst_hospital",
    "drop",
    "drop_accuracy",
    "drop_macro_f1",
    "drop_macro_precision",
    "attack_success_rate",
    "detection_auroc",
    "false_flags",
    "honest_lost",
)

#: Paired differences that are shown at first.
_AT_ONCE = 60


def shown(view: SuiteView) -> list[str]:
    """Return the metrics of the table of all figures that are shown at first: the usual ones, and the budget's."""
    budget = view.results.attack_budget
    wanted = [*_SHOWN, *([budget.metric] if budget else [])]
    return [key for key in view.metrics if key in wanted] or list(view.metrics)[:6]


def rows(view: SuiteView) -> list[Row]:
    """Return each row with its figures by metric.

    Returns
    -------
    list of dict
        ``figures`` holds for each metric that is defined ``[mean, low, high, heat, best, values]``: `heat` is the
        strength of the cell's colour, `best` whether the row is comparable and no other does better under this condition.
    """
    limits = {key: view.limits(key) for key in view.metrics}
    made = []
    for (condition, method), row in view.rows.items():
        made.append(
            {
                "condition": view.conditions.index(condition),
                "method": method,
                "labels": [row.labels[axis.name] for axis in view.results.axes],
                "name": " under ".join(filter(None, (method, " · ".join(condition)))) or "all runs",
                "signs": view.row_signs(row),
                "caveats": [caveat.text for caveat in row.caveats],
                "unranked": not row.comparable,
                "seeds": list(row.seeds),
                "runs": [
                    {"seed": cell.seed, "href": run_link(cell.run), "error": cell.error} for cell in row.cells
                ],
                "figures": _row_metrics(view, condition, method, limits),
            }
        )
    return made


def _row_metrics(
    view: SuiteView, condition: Condition, method: str, limits: Mapping[str, tuple[float, float] | None]
) -> dict[str, list[object]]:
    """Return a row's metrics that are defined, each as `rows` says."""
    found: dict[str, list[object]] = {}
    for key, metric in view.metrics.items():
        spread, ends = view.spread(condition, method, key), limits[key]
        if spread.mean is None or ends is None:
            continue
        found[key] = [
            *(_short(value) for value in (spread.mean, spread.low, spread.high)),
            round(shade(spread.mean, ends, metric), 3),
            int(view.is_best(condition, method, key)),
            [_short(value) for value in spread.values],
        ]
    return found


def differences(view: SuiteView) -> dict[str, Any]:
    """Return the paired differences.

    Returns
    -------
    dict
        ``pairs``: one for each condition and method that is compared at all; ``metrics``: for each metric ``low`` and
        ``high``, the ends of the axis, ``zero``, where on it the zero line stands, and ``values``, for each pair
        ``[difference, low, high, p, p_holm, seeds]`` or None; ``start``: the condition that is shown at first, "" for all.
    """
    pairs: dict[tuple[Condition, str], Row] = {}
    values: dict[str, dict[tuple[Condition, str], list[Any]]] = {}
    for found in view.results.comparisons:
        place = view.place(found.labels)
        row = view.rows.get(place)
        pairs.setdefault(
            place, {"condition": " · ".join(place[0]), "method": place[1], "signs": view.row_signs(row)}
        )
        numbers = (found.difference, found.low, found.high, found.p, found.p_holm, found.seeds)
        values.setdefault(found.metric, {})[place] = [_short(number) for number in numbers]
    metrics = {
        key: {**_axis(list(values[key].values())), "values": [values[key].get(place) for place in pairs]}
        for key in view.metrics
        if key in values
    }
    return {"pairs": list(pairs.values()), "metrics": metrics, "start": _start(view, len(pairs))}


def script_data(view: SuiteView, made: Sequence[Row], compared: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page's script reads."""
    metrics = {
        key: {
            "name": metric.name,
            "better": metric.better,
            "digits": digits(metric.unit),
            "limits": view.limits(key),
            "sense": sense(metric),
            "side": side(metric, view.results.reference),
        }
        for key, metric in view.metrics.items()
    }
    kept = ("name", "caveats", "seeds", "runs", "figures")
    return {
        "metrics": metrics,
        "rows": [{key: row[key] for key in kept} for row in made],
        "differences": compared["metrics"],
    }


def _axis(values: Sequence[Sequence[Any]]) -> dict[str, float]:
    known = [number for value in values for number in value[:3] if number is not None]
    low, high = min(0.0, *known), max(0.0, *known)
    room = 0.04 * (high - low) or 1.0
    low, high = low - room, high + room
    return {"low": _short(low), "high": _short(high), "zero": round(-low / (high - low), 4)}


def _start(view: SuiteView, pairs: int) -> str:
    """Return the condition under which the reference does worst, where all at once are too many to look at."""
    entry = next((e for e in view.results.ranking if e.label == view.results.reference), None)
    return entry.worst_under or "" if entry and pairs > _AT_ONCE else ""


def _short(value: Any) -> Any:
    """Round for the page's data, where every digit is paid for by each cell."""
    return float(f"{value:.5g}") if isinstance(value, float) else value

"""Every figure of a suite's page as its template and its script read it: any metric can be chosen there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedrobust.reports.suite.reading import sense, side
from fedrobust.reports.suite.view import Labels, SuiteView, digits, is_bound, run_link, shade

__all__ = ["Row", "differences", "rows", "script_data", "shown"]

#: What the script and the template read of one row.
Row = dict[str, Any]

#: The metrics of the table of all figures that are shown at first.
_SHOWN = (
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
    wanted = [*_SHOWN, (view.results["attack_budget"] or {}).get("metric")]
    return [key for key in view.metrics if key in wanted] or list(view.metrics)[:6]


def rows(view: SuiteView) -> list[Row]:
    """Return each row with its figures by metric.

    Returns
    -------
    list of dict
        ``figures`` holds for each metric that is defined ``[mean, low, high, heat, best, values]``: `heat` is the
        strength of the cell's colour, `best` whether no unmarked method does better under this condition.
    """
    limits = {key: view.limits(key) for key in view.metrics}
    best = {key: _best_of(view, key) for key in view.metrics}
    made = []
    for (condition, method), row in view.rows.items():
        figures = {}
        for key, metric in view.metrics.items():
            figure, ends = view.figure(condition, method, key), limits[key]
            if figure["mean"] is None or ends is None:
                continue
            top = not is_bound(row) and figure["mean"] == best[key].get(condition)
            figures[key] = [
                *(_short(figure[end]) for end in ("mean", "low", "high")),
                round(shade(figure["mean"], ends, metric), 3),
                int(top),
                [_short(value) for value in figure["values"]],
            ]
        made.append(
            {
                "condition": view.conditions.index(condition),
                "method": method,
                "labels": [str(row["labels"][axis["name"]]) for axis in view.results["axes"]],
                "name": " under ".join(filter(None, (method, " · ".join(condition)))) or "all runs",
                "signs": view.signs(row),
                "caveats": list(row.get("caveats") or ()),
                "bound": is_bound(row),
                "seeds": list(row["seeds"]),
                "runs": [
                    {"seed": cell["seed"], "href": run_link(cell["run"]), "error": cell.get("error")}
                    for cell in row["cells"]
                ],
                "figures": figures,
            }
        )
    return made


def differences(view: SuiteView) -> dict[str, Any]:
    """Return the paired differences.

    Returns
    -------
    dict
        ``pairs``: one for each condition and method that is compared at all; ``metrics``: for each metric ``low`` and
        ``high``, the ends of the axis, ``zero``, where on it the zero line stands, and ``values``, for each pair
        ``[difference, low, high, p, p_holm, seeds]`` or None; ``start``: the condition that is shown at first, "" for all.
    """
    pairs: dict[tuple[Labels, str], Row] = {}
    values: dict[str, dict[tuple[Labels, str], list[Any]]] = {}
    for found in view.results["comparisons"]:
        place = (view.condition(found["labels"]), view.method(found["labels"]))
        row = view.rows.get(place)
        pairs.setdefault(
            place, {"condition": " · ".join(place[0]), "method": place[1], "signs": view.signs(row)}
        )
        if found["difference"] is not None:
            keys = ("difference", "low", "high", "p", "p_holm", "seeds")
            values.setdefault(found["metric"], {})[place] = [_short(found[key]) for key in keys]
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
            "name": metric["name"],
            "better": metric["better"],
            "digits": digits(metric["unit"]),
            "limits": view.limits(key),
            "sense": sense(metric),
            "side": side(metric, view.results["reference"]),
        }
        for key, metric in view.metrics.items()
    }
    kept = ("name", "caveats", "seeds", "runs", "figures")
    return {
        "metrics": metrics,
        "rows": [{key: row[key] for key in kept} for row in made],
        "differences": compared["metrics"],
    }


def _best_of(view: SuiteView, key: str) -> dict[Labels, float]:
    """Return the best figure of the unmarked rows under each condition."""
    better = view.metrics[key]["better"]
    found: dict[Labels, float] = {}
    for (condition, method), row in view.rows.items():
        mean = view.figure(condition, method, key)["mean"]
        if mean is None or better is None or is_bound(row):
            continue
        pick = max if better == "higher" else min
        found[condition] = pick(found.get(condition, mean), mean)
    return found


def _axis(values: Sequence[Sequence[Any]]) -> dict[str, float]:
    known = [number for value in values for number in value[:3] if number is not None]
    low, high = min(0.0, *known), max(0.0, *known)
    room = 0.04 * (high - low) or 1.0
    low, high = low - room, high + room
    return {"low": _short(low), "high": _short(high), "zero": round(-low / (high - low), 4)}


def _start(view: SuiteView, pairs: int) -> str:
    """Return the condition under which the reference does worst, where all at once are too many to look at."""
    ranking: Sequence[Mapping[str, Any]] = view.results["ranking"]
    entry = next((e for e in ranking if e["label"] == view.results["reference"]), None)
    return str(entry["worst_under"] or "") if entry and pairs > _AT_ONCE else ""


def _short(value: Any) -> Any:
    """Round for the page's data, where every digit is paid for by each cell."""
    return float(f"{value:.5g}") if isinstance(value, float) else value

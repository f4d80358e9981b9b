"""Every value of a suite's page as its template and its script read it: any metric can be chosen there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

from fedrobust.evaluation.metrics import SYNTHESIS_OF_REAL, SYNTHESIS_SHOWN, decimals, is_utility
from fedrobust.reports.suite.reading import sense, side
from fedrobust.reports.suite.view import NARROWEST, SuiteView, run_link, shade
from fedrobust.results.suite_table import TIE, Condition

__all__ = ["Differences", "Row", "differences", "rows", "script_data", "shown"]

#: A row's metric: mean, low, high, strength of the cell's colour, 1 for the condition's best, and the values.
MetricCell = list[object]
#: A paired difference: difference, low, high, p, Holm p, seeds.
Difference = list[float | None]


class RunLink(TypedDict):
    """A run of a row: its page, or why it has none."""

    seed: int
    href: str | None
    error: str | None


class Row(TypedDict):
    """What the script and the template read of one row."""

    condition: int
    method: str
    labels: list[str]
    name: str
    signs: str
    caveats: list[str]
    unranked: bool
    seeds: list[int]
    runs: list[RunLink]
    metrics: dict[str, MetricCell]


class Pair(TypedDict):
    """A condition and a method that are compared with the reference."""

    condition: str
    method: str
    signs: str


class DifferenceAxis(TypedDict):
    """The differences of one metric: the axis's ends, where on it zero is, and a difference for each pair."""

    low: float
    high: float
    zero: float
    values: list[Difference | None]


class Differences(TypedDict):
    """The paired differences: pairs, axes by metric, and the condition shown at first ("" for all)."""

    pairs: list[Pair]
    metrics: dict[str, DifferenceAxis]
    start: str


#: The metrics of the table of all metrics that are shown at first.
_SHOWN = (
    "lost_to_attack",
    *SYNTHESIS_SHOWN,
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
    """Return the metrics that the table shows at first: the usual ones, and the attack budget's.

    Of generators also what their images are good for, what real images attain, and the false flags where
    nobody attacks.
    """
    budget = view.results.attack_budget
    wanted = [*_SHOWN, *([budget.metric] if budget else [])]
    if "fid" in view.metrics:
        wanted += ["benign_false_flags", *SYNTHESIS_OF_REAL, *filter(is_utility, view.metrics)]
    return [key for key in view.metrics if key in wanted] or list(view.metrics)[:6]


def rows(view: SuiteView) -> list[Row]:
    """Return each row with its defined metrics."""
    limits = {key: view.limits(key) for key in view.metrics}
    made: list[Row] = []
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
                "metrics": _row_metrics(view, condition, method, limits),
            }
        )
    return made


def _row_metrics(
    view: SuiteView, condition: Condition, method: str, limits: Mapping[str, tuple[float, float] | None]
) -> dict[str, MetricCell]:
    """Return the metrics of a row that are defined."""
    found: dict[str, MetricCell] = {}
    for key, metric in view.metrics.items():
        estimate, ends = view.estimate(condition, method, key), limits[key]
        if estimate.mean is None or ends is None:
            continue
        found[key] = [
            *(_short(value) for value in (estimate.mean, estimate.low, estimate.high)),
            round(shade(estimate.mean, ends, metric), 3),
            int(view.is_best(condition, method, key)),
            [_short(value) for value in estimate.values],
        ]
    return found


def differences(view: SuiteView) -> Differences:
    """Return the paired differences to the reference."""
    pairs: dict[tuple[Condition, str], Pair] = {}
    values: dict[str, dict[tuple[Condition, str], Difference]] = {}
    for found in view.results.comparisons:
        place = view.place(found.labels)
        signs = view.row_signs(view.rows.get(place))
        pairs.setdefault(place, {"condition": " · ".join(place[0]), "method": place[1], "signs": signs})
        # A difference within the tolerance counts as none, and so do the ends of its interval.
        ends = (_zero_if_tied(number) for number in (found.difference, found.low, found.high))
        numbers = (*ends, found.p, found.p_holm, found.seeds)
        values.setdefault(found.metric, {})[place] = [_short(number) for number in numbers]
    metrics: dict[str, DifferenceAxis] = {}
    for key, metric in view.metrics.items():
        if key in values:
            found_here = [values[key].get(place) for place in pairs]
            low, high, zero = _ends(found_here, NARROWEST.get(metric.unit, 1.0) / 10)
            metrics[key] = {"low": low, "high": high, "zero": zero, "values": found_here}
    return {"pairs": list(pairs.values()), "metrics": metrics, "start": _start(view, len(pairs))}


def script_data(view: SuiteView, made: Sequence[Row], compared: Differences) -> dict[str, object]:
    """Return what the page's script reads."""
    metrics = {
        key: {
            "name": metric.name,
            "better": metric.better,
            "digits": decimals(metric.unit),
            "limits": view.limits(key),
            "sense": sense(metric),
            "side": side(metric, view.results.reference),
        }
        for key, metric in view.metrics.items()
    }
    return {
        "metrics": metrics,
        "rows": [
            {
                "name": row["name"],
                "caveats": row["caveats"],
                "seeds": row["seeds"],
                "runs": row["runs"],
                "metrics": row["metrics"],
            }
            for row in made
        ],
        "differences": compared["metrics"],
    }


def _ends(values: Sequence[Difference | None], least: float) -> tuple[float, float, float]:
    """Return the ends of the axis of differences, and where on it zero is; it spans no less than `least`."""
    known = [number for value in values if value for number in value[:3] if number is not None]
    low, high = min(0.0, *known), max(0.0, *known)
    room = max(0.04 * (high - low), (least - (high - low)) / 2)
    low, high = low - room, high + room
    return float(f"{low:.5g}"), float(f"{high:.5g}"), round(-low / (high - low), 4)


def _start(view: SuiteView, pairs: int) -> str:
    """Return the condition shown at first: the reference's worst if all are too many, else all ("")."""
    entry = next((e for e in view.results.ranking if e.label == view.results.reference), None)
    return entry.worst_under or "" if entry and pairs > _AT_ONCE else ""


def _zero_if_tied(value: float | None) -> float | None:
    return 0.0 if value is not None and abs(value) <= TIE else value


def _short(value: float | None) -> float | None:
    """Round for the page's data, so that the page stays small."""
    return float(f"{value:.5g}") if isinstance(value, float) else value

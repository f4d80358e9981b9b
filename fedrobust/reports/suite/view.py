"""A suite's results as its page looks at them: conditions by methods, and figures written for reading."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import quote

from fedrobust.reports.tables import number

__all__ = [
    "BOUND",
    "SuiteView",
    "digits",
    "interval_text",
    "is_bound",
    "join",
    "load_suite",
    "run_link",
    "shade",
    "text",
]

Labels = tuple[str, ...]

#: Stand for the caveats of rows, in the order in which the caveats occur.
_SIGNS = "†‡§¶"

#: How the caveats begin that make a row a bound; other caveats are remarks.
BOUND = ("oracle", "other data")

#: Narrowest range of a metric that the heat map's colours span: what lies closer together shall look alike.
_NARROWEST = {"share": 0.05, "percent": 5.0, "points": 5.0, "count": 1.0}


@dataclass(frozen=True)
class SuiteView:
    """What ``suite.json`` and ``costs.json`` hold, by condition and method.

    Attributes
    ----------
    results : mapping
        The content of ``suite.json``.
    costs : sequence of mapping
        The rows of ``costs.json``; empty if there is no such file.
    """

    results: Mapping[str, Any]
    costs: Sequence[Mapping[str, Any]] = ()

    @property
    def method_axis(self) -> str:
        """Return the name of the axis whose labels are compared; "figure" where nothing is."""
        return str(self.results["method_axis"] or "figure")

    @cached_property
    def methods(self) -> list[str]:
        """Return the labels that are compared, in the suite's order; one empty label where nothing is."""
        compared = [axis for axis in self.results["axes"] if self._compared(axis)]
        return [str(label) for axis in compared for label in axis["labels"]] or [""]

    @cached_property
    def axes(self) -> list[Mapping[str, Any]]:
        """Return the axes that make up a condition."""
        return [axis for axis in self.results["axes"] if not self._compared(axis)]

    @cached_property
    def conditions(self) -> list[Labels]:
        """Return the conditions that occur, in the order in which the suite names them."""
        found = dict.fromkeys(self.condition(row["labels"]) for row in self.results["rows"])
        return list(found)

    @cached_property
    def rows(self) -> dict[tuple[Labels, str], Mapping[str, Any]]:
        """Return the rows by condition and method."""
        return {
            (self.condition(row["labels"]), self.method(row["labels"])): row for row in self.results["rows"]
        }

    @cached_property
    def metrics(self) -> dict[str, Mapping[str, Any]]:
        """Return what is said of each metric, by its key."""
        return {metric["key"]: metric for metric in self.results["metrics"]}

    @cached_property
    def main(self) -> str | None:
        """Return the metric that methods are ranked by: the suite's, accuracy, or else the first one."""
        wanted = (self.results.get("metric"), "accuracy", *self.metrics)
        return next((key for key in wanted if key in self.metrics), None)

    @property
    def unit(self) -> str:
        """Return the unit of the metric that methods are ranked by."""
        return str(self.metrics[self.main]["unit"]) if self.main else "share"

    @property
    def measure(self) -> str:
        """Return the name of the metric that methods are ranked by."""
        return str(self.metrics[self.main]["name"]) if self.main else "accuracy"

    @property
    def sign(self) -> int:
        """Return -1 if a smaller figure of the metric that methods are ranked by is better, else 1."""
        return -1 if self.main and self.metrics[self.main]["better"] == "lower" else 1

    @property
    def seeds(self) -> int:
        """Return how many seeds the suite has."""
        return len(self.results["seeds"])

    @cached_property
    def caveats(self) -> dict[str, str]:
        """Return all caveats that rows bear, each with the sign that stands for it."""
        found = dict.fromkeys(caveat for row in self.results["rows"] for caveat in row.get("caveats") or ())
        return {
            caveat: _SIGNS[place] if place < len(_SIGNS) else f"[{place + 1}]"
            for place, caveat in enumerate(found)
        }

    def signs(self, row: Mapping[str, Any] | None) -> str:
        """Return the signs of a row's caveats; nothing for an unmarked one."""
        return "" if row is None else "".join(self.caveats[caveat] for caveat in row.get("caveats") or ())

    @cached_property
    def bounds(self) -> frozenset[str]:
        """Return the methods that are never winners: bounds, and those that lack conditions."""
        unranked = {str(entry["label"]) for entry in self.results["ranking"] if entry.get("caveats")}
        return frozenset(unranked | {label for (_, label), row in self.rows.items() if is_bound(row)})

    def method(self, labels: Mapping[str, Any]) -> str:
        """Return the method that a row's labels name."""
        return str(labels.get(self.method_axis, ""))

    def condition(self, labels: Mapping[str, Any]) -> Labels:
        """Return the condition that a row's labels name."""
        return tuple(str(labels[axis["name"]]) for axis in self.axes if axis["name"] in labels)

    def figure(self, condition: Labels, method: str, key: str | None) -> Mapping[str, Any]:
        """Return a metric's mean, interval and values; all empty where there are none."""
        row = self.rows.get((condition, method))
        none: dict[str, Any] = {"mean": None, "low": None, "high": None, "values": []}
        return none if row is None else {**none, **(row["metrics"].get(key) or {})}

    def method_signs(self, method: str) -> str:
        """Return the signs of all caveats that any row of a method bears."""
        rows = [row for (_, label), row in self.rows.items() if label == method]
        return "".join(dict.fromkeys(sign for row in rows for sign in self.signs(row)))

    def bound_caveats(self, method: str) -> list[str]:
        """Return the caveats that make any row of a method a bound."""
        rows = [row for (_, label), row in self.rows.items() if label == method]
        return [caveat for row in rows for caveat in row.get("caveats") or () if caveat.startswith(BOUND)]

    def cost(self, method: str, key: str) -> float | None:
        """Return a method's cost over the conditions: mean of the seconds, largest of the memory."""
        rows = [row for row in self.costs if self.method(row["labels"]) == method]
        known = [row[key] for row in rows if row.get(key) is not None]
        if not known:
            return None
        return float(max(known) if key == "defence_mib" else fmean(known))

    def limits(self, key: str) -> tuple[float, float] | None:
        """Return a metric's smallest and largest mean; None where it is defined nowhere."""
        means = [self.figure(*place, key)["mean"] for place in self.rows]
        known = [mean for mean in means if mean is not None]
        return (min(known), max(known)) if known else None

    def _compared(self, axis: Mapping[str, Any]) -> bool:
        return bool(axis["name"] == self.results["method_axis"])


def load_suite(folder: Path) -> SuiteView:
    """Read a suite's folder.

    Parameters
    ----------
    folder : Path
        Holds ``suite.json`` and perhaps ``costs.json``.

    Returns
    -------
    SuiteView
    """
    results = json.loads((folder / "suite.json").read_text(encoding="utf-8"))
    costs = folder / "costs.json"
    return SuiteView(
        results, json.loads(costs.read_text(encoding="utf-8"))["rows"] if costs.is_file() else ()
    )


def is_bound(row: Mapping[str, Any]) -> bool:
    """Return whether a row cannot be compared with others: it is told what they are not, or has other data."""
    return any(caveat.startswith(BOUND) for caveat in row.get("caveats") or ())


def digits(unit: str) -> int:
    """Return how many digits after the point a metric of this unit is written with."""
    return 3 if unit == "share" else 1


def text(value: float | None, unit: str) -> str:
    """Write a figure; one that rounds to 0 has no sign."""
    return number(None if value is None else round(value, digits(unit)) + 0.0, digits(unit))


def interval_text(figure: Mapping[str, Any], unit: str) -> str:
    """Write an interval as "low to high"; nothing where there is none."""
    if figure["low"] is None or figure["high"] is None:
        return ""
    return " to ".join(text(figure[end], unit) for end in ("low", "high"))


def shade(value: float, limits: tuple[float, float], metric: Mapping[str, Any]) -> float:
    """Return how strongly a heat map's cell is coloured: 0 at the best figure, towards 1 at the worst.

    A metric of which neither end is better is coloured by its size.
    """
    low, high = limits
    span = max(high - low, _NARROWEST.get(metric["unit"], 0.0)) or 1.0
    return (high - value) / span if metric["better"] == "higher" else (value - low) / span


def run_link(run: str | None) -> str | None:
    """Return the address of a run's page; a colon is written so that no path can be taken for a scheme."""
    return None if run is None else quote(f"{run.rstrip('/')}/report.html", safe="/.~")


def join(words: Iterable[str]) -> str:
    """Write a list: "a, b and c"."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last

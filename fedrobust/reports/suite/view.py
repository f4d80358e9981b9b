"""A suite's results as its page shows them: conditions by methods, and metrics written for reading."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from statistics import fmean
from urllib.parse import quote

from fedrobust.evaluation.metrics import Unit, decimals
from fedrobust.reports.tables import number
from fedrobust.results.files import read_record
from fedrobust.results.suite_records import (
    AxisLabels,
    Comparison,
    CostRow,
    Estimate,
    MetricInfo,
    SuiteCosts,
    SuiteResults,
    SuiteRow,
)
from fedrobust.results.suite_table import Condition, SuiteTable

__all__ = ["NARROWEST", "SuiteView", "interval_text", "join", "load_suite", "run_link", "shade", "text"]

#: Narrowest range of a metric that the heat map's colours span: values closer together look alike.
NARROWEST: dict[str, float] = {"share": 0.05, "percent": 5.0, "points": 5.0, "count": 1.0}


class SuiteView(SuiteTable):
    """What ``suite.json`` and ``costs.json`` hold, by condition and method.

    Parameters
    ----------
    results : SuiteResults
    costs : SuiteCosts, optional
    """

    def __init__(self, results: SuiteResults, costs: SuiteCosts | None = None) -> None:
        """Sort the rows."""
        super().__init__(results)
        self.costs: tuple[CostRow, ...] = costs.rows if costs else ()

    @property
    def method_axis(self) -> str:
        """Return the name of the axis whose labels are compared; "metric" where nothing is."""
        return self.axis or "metric"

    @cached_property
    def axes(self) -> list[AxisLabels]:
        """Return the axes that make up a condition."""
        return [axis for axis in self.results.axes if axis.name != self.axis]

    @cached_property
    def main(self) -> str | None:
        """Return the metric that methods are ranked by: the suite's, accuracy, or else the first one."""
        wanted = (self.results.metric, "accuracy", *self.metrics)
        return next((key for key in wanted if key in self.metrics), None)

    @property
    def unit(self) -> Unit:
        """Return the unit of the metric that methods are ranked by."""
        return self.metrics[self.main].unit if self.main else "share"

    @property
    def measure(self) -> str:
        """Return the name of the metric that methods are ranked by."""
        return self.metrics[self.main].name if self.main else "accuracy"

    @property
    def sign(self) -> int:
        """Return -1 if a smaller value of the metric that methods are ranked by is better, else 1."""
        return -1 if self.main and self.metrics[self.main].better == "lower" else 1

    @property
    def seeds(self) -> int:
        """Return how many seeds the suite has."""
        return len(self.results.seeds)

    def row_signs(self, row: SuiteRow | None) -> str:
        """Return the signs of a row's caveats; empty for a row without."""
        return "" if row is None else self.signs_of(row.caveats)

    @cached_property
    def unranked(self) -> frozenset[str]:
        """Return the methods that have no rank."""
        return frozenset(entry.label for entry in self.results.ranking if not entry.ranked)

    def method(self, labels: dict[str, str]) -> str:
        """Return the method that a row's labels name."""
        return self.place(labels)[1]

    def condition(self, labels: dict[str, str]) -> Condition:
        """Return the condition that a row's labels name."""
        return self.place(labels)[0]

    def main_spread(self, condition: Condition, method: str) -> Estimate:
        """Return the estimate of the metric that methods are ranked by."""
        return self.estimate(condition, method, self.main or "")

    def method_signs(self, method: str) -> str:
        """Return the signs of all caveats that any row of a method has."""
        rows = [row for (_, label), row in self.rows.items() if label == method]
        return "".join(dict.fromkeys(self.signs[caveat] for row in rows for caveat in row.caveats))

    def cost(self, method: str, key: str) -> float | None:
        """Return a method's cost over the conditions: mean of the seconds, largest of the memory."""
        rows = [row for row in self.costs if self.method(row.labels) == method]
        known: list[float] = [getattr(row, key) for row in rows if getattr(row, key) is not None]
        if not known:
            return None
        return max(known) if key == "defence_mib" else fmean(known)

    def limits(self, key: str) -> tuple[float, float] | None:
        """Return a metric's smallest and largest mean; None where it is defined nowhere."""
        means = [self.estimate(*place, key).mean for place in self.rows]
        known = [mean for mean in means if mean is not None]
        return (min(known), max(known)) if known else None


def load_suite(folder: Path) -> SuiteView:
    """Read a suite's folder: ``suite.json`` and, if there is one, ``costs.json``.

    Raises
    ------
    UserError
        If one of them cannot be read.
    """
    costs = folder / "costs.json"
    return SuiteView(
        read_record(folder / "suite.json", SuiteResults),
        read_record(costs, SuiteCosts) if costs.is_file() else None,
    )


def text(value: float | None, unit: Unit) -> str:
    """Write a value; one that rounds to 0 has no sign."""
    return number(None if value is None else round(value, decimals(unit)) + 0.0, decimals(unit))


def interval_text(found: Estimate | Comparison, unit: Unit) -> str:
    """Write an interval as "low to high"; empty where there is none."""
    if found.low is None or found.high is None:
        return ""
    return " to ".join(text(end, unit) for end in (found.low, found.high))


def shade(value: float, limits: tuple[float, float], metric: MetricInfo) -> float:
    """Return how strongly a heat map's cell is coloured: 0 at the best value, towards 1 at the worst.

    A metric of which neither end is better is coloured by its size.
    """
    low, high = limits
    span = max(high - low, NARROWEST.get(metric.unit, 0.0)) or 1.0
    return (high - value) / span if metric.better == "higher" else (value - low) / span


def run_link(run: str | None) -> str | None:
    """Return the address of a run's page; a colon is written so that no path can be taken for a scheme."""
    return None if run is None else quote(f"{run.rstrip('/')}/report.html", safe="/.~")


def join(words: Iterable[str]) -> str:
    """Write a list: "a, b and c"."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last

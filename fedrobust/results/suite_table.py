"""A suite's rows by condition and method, and the one rule for which is best, for all outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

from fedrobust.results.suite_records import Caveat, Estimate, MetricInfo, SuiteResults, SuiteRow

__all__ = ["TIE", "Condition", "SuiteTable", "merge_ties"]

#: The labels of all axes but the methods'.
Condition = tuple[str, ...]

#: Values that differ by no more are equal: means of the same numbers in another order differ by rounding.
TIE = 1e-9

_SIGNS = "†‡§¶"


def merge_ties(values: Sequence[float]) -> list[float]:
    """Return the values, those within `TIE` of a smaller one replaced by that one."""
    merged: dict[float, float] = {}
    smallest: float | None = None
    for value in sorted(values):
        if smallest is None or value - smallest > TIE:
            smallest = value
        merged[value] = smallest
    return [merged[value] for value in values]


class SuiteTable:
    """A suite's rows by condition and method.

    A condition is the combination of all axes but the methods'. Where nothing is compared, there is one
    method without a name.

    Parameters
    ----------
    results : SuiteResults

    Attributes
    ----------
    axis : str
        The axis of the methods; empty where nothing is compared.
    condition_axes : tuple of str
        The other axes.
    rows : dict
        By condition and method, in the suite's order.
    metrics : dict
        Name, direction, unit and meaning of each metric, by its key.
    """

    def __init__(self, results: SuiteResults) -> None:
        """Sort the rows."""
        self.results = results
        self.axis = results.method_axis
        self.condition_axes = tuple(axis.name for axis in results.axes if axis.name != self.axis)
        self.rows: dict[tuple[Condition, str], SuiteRow] = {
            self.place(row.labels): row for row in results.rows
        }
        self.metrics: dict[str, MetricInfo] = {metric.key: metric for metric in results.metrics}

    @cached_property
    def conditions(self) -> list[Condition]:
        """Return the conditions that occur, in the suite's order."""
        return list(dict.fromkeys(condition for condition, _ in self.rows))

    @cached_property
    def methods(self) -> list[str]:
        """Return the methods that occur, in the suite's order."""
        return list(dict.fromkeys(method for _, method in self.rows))

    @cached_property
    def signs(self) -> dict[Caveat, str]:
        """Return all caveats of the rows, each with the sign that stands for it."""
        found = dict.fromkeys(caveat for row in self.rows.values() for caveat in row.caveats)
        return {
            caveat: _SIGNS[place] if place < len(_SIGNS) else f"[{place + 1}]"
            for place, caveat in enumerate(found)
        }

    def place(self, labels: Mapping[str, str]) -> tuple[Condition, str]:
        """Return the condition and the method that labels name."""
        condition = tuple(labels[axis] for axis in self.condition_axes if axis in labels)
        return condition, labels.get(self.axis, "")

    def row(self, condition: Condition, method: str) -> SuiteRow | None:
        """Return a row; None if the suite has none there."""
        return self.rows.get((condition, method))

    def estimate(self, condition: Condition, method: str, key: str) -> Estimate:
        """Return a metric's mean, interval and values; None and none where undefined."""
        row = self.row(condition, method)
        return row.metrics.get(key, Estimate()) if row else Estimate()

    def best(self, condition: Condition, key: str) -> float | None:
        """Return the best mean of a condition's comparable rows; None if there is nothing to compare."""
        rows = [self.row(condition, method) for method in self.methods]
        means = [row.metrics.get(key, Estimate()).mean for row in rows if row and row.comparable]
        known = [mean for mean in means if mean is not None]
        better = self.metrics[key].better if key in self.metrics else None
        if better is None or len(known) < 2:
            return None
        return max(known) if better == "higher" else min(known)

    def is_best(self, condition: Condition, method: str, key: str) -> bool:
        """Tell whether a row is comparable and no other under the condition does better; several may tie."""
        row, best = self.row(condition, method), self.best(condition, key)
        mean = self.estimate(condition, method, key).mean
        return (
            row is not None
            and row.comparable
            and best is not None
            and mean is not None
            and abs(mean - best) <= TIE
        )

    def common_caveats(self, method: str) -> list[Caveat]:
        """Return the caveats that all rows of a method have, so that its name can bear them."""
        rows = [row for (_, name), row in self.rows.items() if name == method]
        return [caveat for caveat in self.signs if rows and all(caveat in row.caveats for row in rows)]

    def signs_of(self, caveats: Iterable[Caveat]) -> str:
        """Return the signs of caveats."""
        return "".join(self.signs[caveat] for caveat in caveats)

"""How to read a suite's metrics: what intervals and tests can show, and what colours and sides mean."""

from __future__ import annotations

from fedrobust.reports.suite.view import SuiteView
from fedrobust.reports.tables import number
from fedrobust.results.suite_records import MetricInfo

__all__ = ["ENOUGH", "LEVEL", "reading", "sense", "side", "smallest_p", "test_limit"]

#: Fewer seeds give no interval.
ENOUGH = 3

#: Below this a p-value is significant.
LEVEL = 0.05


def reading(view: SuiteView) -> str:
    """Return how the intervals and tests are to be read at this number of seeds."""
    if view.seeds < ENOUGH:
        return f"Fewer than {ENOUGH} seeds: no intervals and no tests, only the values themselves."
    sentence = f"Means over {view.seeds} seeds with 95 % bootstrap intervals."
    if view.seeds == ENOUGH:
        sentence += (
            " With three, such an interval runs from the smallest to the largest value, and contains the "
            "true mean three times in four."
        )
    return sentence


def test_limit(view: SuiteView) -> str:
    """Return what the tests cannot show at this number of seeds; nothing where they can."""
    if view.seeds < ENOUGH or smallest_p(view.seeds) <= LEVEL:
        return ""
    least = number(smallest_p(view.seeds))
    return (
        f"With {view.seeds} seeds no p can fall below {least}, however clear the difference: read the "
        "intervals, not the p."
    )


def sense(metric: MetricInfo) -> str:
    """Return what a metric is, and what the colours of its map mean."""
    if metric.better is None:
        return f"{metric.about} Neither end is better; a stronger colour is a higher value."
    word, end = ("Higher", "lower") if metric.better == "higher" else ("Lower", "higher")
    return f"{metric.about} {word} is better; a stronger colour is a {end}, so worse, value."


def side(metric: MetricInfo, reference: str | None) -> str:
    """Return what the two sides of the zero line mean."""
    if metric.better is None:
        return f"Right of the line {metric.name} is higher than with {reference}."
    right = ("better", "worse") if metric.better == "higher" else ("worse", "better")
    return (
        f"Right of the line {metric.name} is higher than with {reference}, which is {right[0]}; left of it, "
        f"{right[1]}. Discs: better than the reference; squares: worse."
    )


def smallest_p(seeds: int) -> float:
    """Return the smallest p that a two-sided sign-flip test over so many seeds can give."""
    return float(2.0 ** (1 - seeds))

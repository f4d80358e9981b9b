"""What all that show a suite's results share: conditions, methods, caveats, and how figures are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Reading", "digits", "listed", "several"]

Row = Mapping[str, Any]

_SIGNS = "†‡§¶"


class Reading:
    """A suite's rows by condition and method.

    A condition is the combination of all axes but the methods'. Where nothing is contended, there is one method without
    a name.

    Parameters
    ----------
    results : mapping
        What ``suite.json`` holds.

    Attributes
    ----------
    conditions : list of tuple of str
        In the suite's order.
    methods : list of str
    metrics : dict
        What is said of each metric, by its key.
    signs : dict
        The sign that stands for each caveat.
    """

    def __init__(self, results: Mapping[str, Any]) -> None:
        """Sort the rows."""
        self.axis: str = results["method_axis"] or ""
        self.axes = [axis["name"] for axis in results["axes"] if axis["name"] != self.axis]
        self._rows = {self.place(row["labels"]): row for row in results["rows"]}
        self.conditions = list(dict.fromkeys(condition for condition, _ in self._rows))
        self.methods = list(dict.fromkeys(method for _, method in self._rows))
        self.metrics = {metric["key"]: metric for metric in results["metrics"]}
        caveats = dict.fromkeys(caveat for row in results["rows"] for caveat in row["caveats"])
        self.signs = {
            caveat: _SIGNS[place] if place < len(_SIGNS) else f"[{place + 1}]"
            for place, caveat in enumerate(caveats)
        }

    def place(self, labels: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
        """Return the condition and the method that labels name."""
        condition = tuple(str(labels[axis]) for axis in self.axes if axis in labels)
        return condition, str(labels.get(self.axis, ""))

    def row(self, condition: tuple[str, ...], method: str) -> Row | None:
        """Return a row; None if the suite has none there."""
        return self._rows.get((condition, method))

    def spread(self, condition: tuple[str, ...], method: str, key: str) -> Mapping[str, Any]:
        """Return a metric's mean and interval, None where undefined."""
        row = self.row(condition, method)
        return {"mean": None, "low": None, "high": None, **(row["metrics"].get(key, {}) if row else {})}

    def best(self, condition: tuple[str, ...], key: str) -> float | None:
        """Return the best mean under a condition; None if there is no better, or nothing to beat.

        Rows with a caveat, such as an oracle's, do not compete: what the caveat says makes the comparison unfair.
        """
        rows = [self.row(condition, method) for method in self.methods]
        means = [row["metrics"].get(key, {}).get("mean") for row in rows if row and not row["caveats"]]
        known: list[float] = [mean for mean in means if mean is not None]
        better = self.metrics[key]["better"] if key in self.metrics else None
        if better is None or len(known) < 2:
            return None
        return max(known) if better == "higher" else min(known)

    def common_caveats(self, method: str) -> list[str]:
        """Return the caveats that all rows of a method have, which its name can bear."""
        rows = [row for (_, name), row in self._rows.items() if name == method]
        return [caveat for caveat in self.signs if rows and all(caveat in row["caveats"] for row in rows)]


def digits(value: float | None, unit: str, *, signed: bool = False, lacking: str = "–") -> str:
    """Return .613 of a share, as journals print what cannot exceed 1; 4.2 of a percentage, a number of points or a count."""
    if value is None:
        return lacking
    text = f"{value:{'+' if signed else ''}.{3 if unit == 'share' else 1}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("0.", ".", 1) if unit == "share" and abs(float(text)) < 1 else text


def several(number: int, noun: str) -> str:
    """Return a number with its noun, which has an s but for one."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def listed(words: Sequence[str]) -> str:
    """Return words as a list in a sentence."""
    return ", ".join(words[:-1]) + (" and " if len(words) > 1 else "") + words[-1] if words else ""

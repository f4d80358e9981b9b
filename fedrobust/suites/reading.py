"""What all that show a suite's results share: conditions, contenders, marks, and how figures are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Reading", "digits", "listed", "several"]

Row = Mapping[str, Any]

_SIGNS = "†‡§¶"


class Reading:
    """A suite's rows by condition and contender.

    A condition is the combination of all axes but the contenders'. Where nothing is contended, there is one contender without
    a name.

    Parameters
    ----------
    results : mapping
        What ``suite.json`` holds.

    Attributes
    ----------
    conditions : list of tuple of str
        In the suite's order.
    contenders : list of str
    metrics : dict
        What is said of each metric, by its key.
    signs : dict
        The sign that stands for each mark.
    """

    def __init__(self, results: Mapping[str, Any]) -> None:
        """Sort the rows."""
        self.axis: str = results["contenders"] or ""
        self.axes = [axis["name"] for axis in results["axes"] if axis["name"] != self.axis]
        self._rows = {self.place(row["labels"]): row for row in results["rows"]}
        self.conditions = list(dict.fromkeys(condition for condition, _ in self._rows))
        self.contenders = list(dict.fromkeys(contender for _, contender in self._rows))
        self.metrics = {metric["key"]: metric for metric in results["metrics"]}
        marks = dict.fromkeys(mark for row in results["rows"] for mark in row["marks"])
        self.signs = {
            mark: _SIGNS[place] if place < len(_SIGNS) else f"[{place + 1}]"
            for place, mark in enumerate(marks)
        }

    def place(self, labels: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
        """Return the condition and the contender that labels name."""
        condition = tuple(str(labels[axis]) for axis in self.axes if axis in labels)
        return condition, str(labels.get(self.axis, ""))

    def row(self, condition: tuple[str, ...], contender: str) -> Row | None:
        """Return a row; None if the suite has none there."""
        return self._rows.get((condition, contender))

    def spread(self, condition: tuple[str, ...], contender: str, key: str) -> Mapping[str, Any]:
        """Return a metric's mean and interval, None where undefined."""
        row = self.row(condition, contender)
        return {"mean": None, "low": None, "high": None, **(row["metrics"].get(key, {}) if row else {})}

    def best(self, condition: tuple[str, ...], key: str) -> float | None:
        """Return the best mean under a condition; None if there is no better, or nothing to beat.

        Rows with a mark, such as an oracle's, do not compete: what the mark says makes the comparison unfair.
        """
        rows = [self.row(condition, contender) for contender in self.contenders]
        means = [row["metrics"].get(key, {}).get("mean") for row in rows if row and not row["marks"]]
        known: list[float] = [mean for mean in means if mean is not None]
        better = self.metrics[key]["better"] if key in self.metrics else None
        if better is None or len(known) < 2:
            return None
        return max(known) if better == "higher" else min(known)

    def common_marks(self, contender: str) -> list[str]:
        """Return the marks that all rows of a contender have, which its name can bear."""
        rows = [row for (_, name), row in self._rows.items() if name == contender]
        return [mark for mark in self.signs if rows and all(mark in row["marks"] for row in rows)]


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

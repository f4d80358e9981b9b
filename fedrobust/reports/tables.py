"""Tables of a report, and how its numbers are written."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "FILTERS",
    "Cell",
    "Column",
    "Table",
    "in_uniform_weights",
    "number",
    "percent",
    "probability",
    "share",
]

#: What a table's cell holds.
Cell = str | int | float | bool | None

#: What stands for a number that is not there.
NOTHING = "–"


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes
    ----------
    name : str
    digits : int or None
        Digits after the point of its numbers; None writes them as they are.
    unit : str
        Follows each number.
    """

    name: str
    digits: int | None = None
    unit: str = ""


@dataclass(frozen=True)
class Table:
    """A table for a page: ``{{ parts.table(table) }}`` of ``parts.html.j2``.

    Attributes
    ----------
    caption : str
    columns : sequence of Column or str
    rows : sequence of sequences
        A cell is a text, a number, a truth value or None; the first of a row is its heading.
    """

    caption: str
    columns: Sequence[Column | str]
    rows: Sequence[Sequence[Cell]]

    @property
    def heads(self) -> list[Column]:
        """Return the columns."""
        return [Column(column) if isinstance(column, str) else column for column in self.columns]


def number(value: Cell, digits: int | None = None, unit: str = "") -> str:
    """Return a cell's text."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        text = (
            f"{value:.{digits}f}"
            if digits is not None
            else f"{value:g}"
            if isinstance(value, float)
            else str(value)
        )
        return text.replace("-", "−") + (f" {unit}" if unit else "")
    return str(value)


def share(value: float | None) -> str:
    """Return a share between 0 and 1 with three digits."""
    return number(value, 3)


def percent(value: float | None) -> str:
    """Return a percentage that is one already."""
    return number(value, 2, "%")


def probability(value: float | None) -> str:
    """Return a p value; one that three digits would round to 0 is given as a bound."""
    return "< 0.001" if value is not None and value < 0.0005 else number(value, 3)


def in_uniform_weights(weight: float | None) -> str:
    """Return a weight, given as a multiple of the uniform weight, in words."""
    return (
        f"{number(weight, 2)} {'of a uniform weight' if weight is None or weight < 1 else 'uniform weights'}"
    )


def sort_value(value: Cell) -> str:
    """Return what a column is sorted by: numbers unrounded, nothing for what is not there."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return repr(float(value)) if isinstance(value, int | float) else str(value)


def is_number(value: Cell) -> bool:
    """Return whether a cell stands with the numbers, at the right."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


#: What the templates know beside Jinja2's own filters.
FILTERS: dict[str, Callable[..., Any]] = {
    "number": number,
    "share": share,
    "percent": percent,
    "probability": probability,
    "sort_value": sort_value,
    "is_number": is_number,
}

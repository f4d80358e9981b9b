"""What the scripts that write a page of docs/ share."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence

import numpy as np

__all__ = ["escaped", "interval", "prose", "row", "table_head"]

#: The width of the pages.
WIDTH = 100


def prose(text: str) -> list[str]:
    """Return a paragraph as lines of the pages' width."""
    return textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def escaped(name: str) -> str:
    """Return a name for a cell of a table, where a bar would begin the next cell."""
    return name.replace("|", "&#124;")


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half the width of its 95 % interval (Student's t); NaN with fewer than 3 values."""
    from scipy.stats import t

    mean = float(np.mean(values)) if len(values) else math.nan
    if len(values) < 3:
        return mean, math.nan
    return mean, float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))


def row(cells: Iterable[object]) -> str:
    """Return a row of a table."""
    return f"|{'|'.join(f' {cell} ' if cell != '' else ' ' for cell in cells)}|"


def table_head(names: Sequence[str]) -> list[str]:
    """Return the two lines above a table's rows."""
    return [row(names), "|---" * len(names) + "|"]

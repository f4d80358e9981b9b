"""Tables of a given width, in which nothing is cut off: what is too wide becomes several tables."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["Column", "print_grid", "print_lines", "tables"]

_WIDEST = 36  # of a name; what is longer continues on a second line
_GAP = 2
_NONE = Text("–")

RowKey = TypeVar("RowKey", bound=Hashable)


@dataclass(frozen=True)
class Column:
    """A column: its name, its cells, and whether both may break between words where room is short."""

    header: str
    cells: Sequence[Text]
    breaks: bool = False

    def full(self, cap: int) -> int:
        """Return the width at which nothing breaks, but for names of more than `cap` characters."""
        return min(cap, max(cell_len(line) for line in self._lines()))

    def least(self, cap: int) -> int:
        """Return the width below which words would break."""
        if not self.breaks:
            return self.full(cap)
        return min(cap, max((cell_len(word) for line in self._lines() for word in line.split()), default=1))

    def _lines(self) -> list[str]:
        return [self.header, *(cell.plain for cell in self.cells)]


def print_grid(
    console: Console,
    corners: tuple[str, str],
    rows: Mapping[RowKey, str],
    columns: Mapping[str, str],
    cells: Mapping[tuple[RowKey, str], Text],
) -> None:
    """Print rows by columns; turned round if one table would be too wide, and that takes fewer lines.

    Parameters
    ----------
    console : rich.console.Console
    corners : tuple of str
        What the rows are, and what the columns are.
    rows, columns : mapping
        The name of each.
    cells : mapping
        By row and column; what is not there has a dash.
    """
    upright = tables(
        Column(corners[0], [Text(name) for name in rows.values()]),
        [Column(name, [cells.get((row, key), _NONE) for row in rows]) for key, name in columns.items()],
        console.width,
    )
    turned = tables(
        Column(corners[1], [Text(name) for name in columns.values()]),
        [Column(name, [cells.get((row, key), _NONE) for key in columns]) for row, name in rows.items()],
        console.width,
    )
    _print(console, upright if len(upright) == 1 else min(turned, upright, key=_height))


def print_lines(console: Console, header: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print lines of numbers; all but the first column may break between words."""
    first, *others = (
        Column(title, [Text(line[place]) for line in lines], breaks=place > 0)
        for place, title in enumerate(header)
    )
    _print(console, tables(first, others, console.width))


def tables(first: Column, others: Sequence[Column], width: int) -> list[Table]:
    """Return tables of at most `width`, which repeat the first column and share the others in order."""
    cap = _WIDEST
    while cap > 1 and any(_needed([first, column], cap) > width for column in others):
        cap -= 1
    return [_table([first, *group], width, cap) for group in _groups(first, others, width, cap)]


def _groups(first: Column, others: Sequence[Column], width: int, cap: int) -> Iterator[list[Column]]:
    taken: list[Column] = []
    for column in others:
        if taken and _needed([first, *taken, column], cap) > width:
            yield taken
            taken = []
        taken.append(column)
    yield taken


def _needed(columns: Sequence[Column], cap: int) -> int:
    return sum(column.least(cap) for column in columns) + _GAP * (len(columns) - 1)


def _table(columns: Sequence[Column], width: int, cap: int) -> Table:
    spare = max(0, width - _needed(columns, cap))
    widths = [column.least(cap) for column in columns]
    wanted = [column.full(cap) - least for column, least in zip(columns, widths, strict=True)]
    # Those that need little more get it first.
    for place in sorted(range(len(columns)), key=wanted.__getitem__):
        more = min(spare, wanted[place])
        widths[place] += more
        spare -= more
    # Half of the gap is the box's divider, which is blank.
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0))
    for place, column in enumerate(columns):
        words = column.breaks and any(" " in cell.plain for cell in column.cells)
        table.add_column(
            Text(column.header),
            width=widths[place],
            overflow="fold",
            justify="left" if place == 0 or words else "right",
        )
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*cells)
    return table


def _height(pieces: Sequence[Table]) -> tuple[bool, int]:
    """Return whether there are several, then their lines."""
    return len(pieces) > 1, sum(table.row_count + 3 for table in pieces)


def _print(console: Console, pieces: Sequence[Table]) -> None:
    for place, table in enumerate(pieces):
        if place:
            console.print()
        console.print(table)

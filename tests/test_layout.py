from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console
from rich.text import Text

from fedrobust.suites.layout import Column, print_grid, print_lines, tables


def column(header: str, *cells: str, breaks: bool = False) -> Column:
    return Column(header, [Text(cell) for cell in cells], breaks)


def show(pieces: list[object], width: int) -> list[str]:
    console = Console(width=width, file=StringIO())
    for piece in pieces:
        console.print(piece)
    assert isinstance(console.file, StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_columns_that_fit_are_one_table() -> None:
    pieces = tables(column("rule", "a", "bb"), [column("one", "1", "2"), column("two", "3", "4")], 14)
    assert show(list(pieces), 14) == ["rule  one  two", "──────────────", "a       1    3", "bb      2    4"]


def test_columns_that_do_not_fit_continue_in_a_second_table() -> None:
    first = column("rule", "a", "bb")
    pieces = tables(first, [column("one", "1", "2"), column("two", "3", "4")], 13)
    assert show(list(pieces), 13) == [
        *("rule  one", "─────────", "a       1", "bb      2"),
        *("rule  two", "─────────", "a       3", "bb      4"),
    ]


def test_headings_break_between_words_only() -> None:
    first, heading = column("x", "a"), "mean rank"
    assert show(list(tables(first, [column(heading, "1", breaks=True)], 12)), 12)[0] == "x  mean rank"
    assert show(list(tables(first, [column(heading, "1", breaks=True)], 11)), 11)[:2] == [
        "       mean",
        "x      rank",
    ]
    # One that may not break takes a table of its own.
    two = [column("one", "1"), column(heading, "1")]
    assert len(tables(first, two, 16)) == 2
    assert len(tables(first, two, 17)) == 1


@pytest.mark.parametrize("width", [40, 60, 80])
def test_name_longer_than_any_column_is_folded(width: int) -> None:
    name = "".join(chr(ord("a") + place % 26) for place in range(70))
    lines = show(list(tables(column("rule", name), [column("one", "1")], width)), width)
    assert max(len(line) for line in lines) <= width
    assert "".join(line.split()[0] for line in lines[2:]) == name


def grid(rows: list[str], columns: list[str], width: int) -> list[str]:
    console = Console(width=width, file=StringIO())
    cells = {(row, name): Text(f"{row}{name}") for row in rows for name in columns}
    print_grid(
        console,
        ("down", "across"),
        dict.fromkeys(rows, "") | {r: r for r in rows},
        {c: c for c in columns},
        cells,
    )
    assert isinstance(console.file, StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_grid_that_fits_transposed_is_transposed() -> None:
    assert grid(["a", "b"], ["1", "2", "3"], 80)[0].split() == ["down", "1", "2", "3"]
    assert grid(["a", "b"], ["1", "2", "3"], 15) == [
        *("across   a   b", "──────────────"),
        *("1       a1  b1", "2       a2  b2", "3       a3  b3"),
    ]


def test_grid_too_wide_either_way_is_split_the_shorter_way() -> None:
    # Two columns a table either way: of 9 rows and 2 columns, or of 2 rows and 9 columns; and the other way
    # about.
    for columns, corners in (("123456789", ["across"] * 2), ("12345", ["down"] * 3)):
        lines = grid(["a", "b"], list(columns), 12)
        assert [line.split()[0] for line in lines if line.startswith(("across", "down"))] == corners
        cells = [cell for line in lines for cell in line.split() if len(cell) == 2]
        assert sorted(cells) == sorted(row + name for row in "ab" for name in columns)


def test_grid_without_a_cell_shows_a_dash() -> None:
    console = Console(width=40, file=StringIO())
    print_grid(console, ("", ""), {"a": "a"}, {"1": "1", "2": "2"}, {("a", "2"): Text("x")})
    assert isinstance(console.file, StringIO)
    assert console.file.getvalue().splitlines()[-1].split() == ["a", "–", "x"]


def test_lines_with_markup_stay_text() -> None:
    console = Console(width=40, file=StringIO())
    print_lines(console, ["rule", "[bold]x"], [["[red]a[/red]", "[/]"]])
    assert isinstance(console.file, StringIO)
    assert "[red]a[/red]" in console.file.getvalue()
    assert "[bold]x" in console.file.getvalue()
    assert "[/]" in console.file.getvalue()

"""`python -m fedrobust.report`: the page of a run or of a suite, one HTML file that works offline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from fedrobust.commands.flags import user_path
from fedrobust.errors import UserError
from fedrobust.printing import one_line
from fedrobust.reports.writing import suite_results, write_report
from fedrobust.results.suite_records import SuiteResults

__all__ = ["report", "write_report"]


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(parser=user_path, help="folders of runs or of suites", metavar="RUN_OR_SUITE..."),
    ],
    show: Annotated[bool, typer.Option("--open", help="open the pages in the browser")] = False,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", parser=user_path, metavar="FILE", help="write a suite's table there as CSV"),
    ] = None,
    parquet: Annotated[
        Path | None, typer.Option("--parquet", parser=user_path, metavar="FILE", help="write it as Parquet")
    ] = None,
    latex: Annotated[
        Path | None, typer.Option("--latex", parser=user_path, metavar="FILE", help="write it as LaTeX")
    ] = None,
) -> None:
    """Write the report of runs and suites into their folders, report.html, and print where each is.

    Example: fedrobust report runs/* --open
    """
    targets = {
        name: path
        for name, path in (("csv", csv), ("parquet", parquet), ("latex", latex))
        if path is not None
    }
    if targets:
        _export(folders, targets)
    for folder in folders:
        page = write_report(folder)
        print(one_line(page))
        if show:
            import webbrowser

            webbrowser.open(page.absolute().as_uri())


def _export(folders: Sequence[Path], targets: Mapping[str, Path]) -> None:
    """Write a suite's table in the forms that are asked for."""
    flags = " and ".join(f"--{name}" for name in targets)
    if len(folders) > 1:
        raise UserError(f"{flags}: one table is one suite's; give one folder")
    (folder,) = folders
    if not (folder / "suite.json").is_file():
        raise UserError(f"{flags}: {folder} is not the folder of a suite; only suites have a table to export")
    from fedrobust.suites import export

    results = suite_results(folder)
    writers: Mapping[str, Callable[[SuiteResults, Path], None]] = {
        "csv": export.write_csv,
        "parquet": export.write_parquet,
        "latex": export.write_latex,
    }
    for name, path in targets.items():
        writers[name](results, path)

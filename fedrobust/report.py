"""`python -m fedrobust.report`: the page of a run or of a suite, one HTML file that works offline."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from fedrobust.cli import run_command
from fedrobust.errors import UserError

__all__ = ["report", "write_report"]

#: The page's name in its folder.
FILE = "report.html"


def report(
    folders: Annotated[
        list[Path], typer.Argument(help="folders of runs or of suites", metavar="RUN_OR_SUITE...")
    ],
    show: Annotated[bool, typer.Option("--open", help="open the pages in the browser")] = False,
    csv: Annotated[Path | None, typer.Option("--csv", help="write a suite's table there as CSV")] = None,
    parquet: Annotated[Path | None, typer.Option("--parquet", help="write it as Parquet")] = None,
    latex: Annotated[Path | None, typer.Option("--latex", help="write it as LaTeX")] = None,
) -> None:
    """Write the page of runs and suites into their folders, report.html, and say where each is.

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
        print(page)
        if show:
            import webbrowser

            webbrowser.open(page.absolute().as_uri())


def write_report(folder: Path) -> Path:
    """Write a folder's page into it, and return where it is.

    Parameters
    ----------
    folder : Path
        That of a finished run or, with a ``suite.json``, of a suite.

    Raises
    ------
    UserError
        If it is neither, or cannot be read or written.
    """
    text = _page(folder)
    page, aside = folder / FILE, folder / f".{FILE}.aside"
    try:
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, page)
    except OSError as error:
        raise UserError(f"{page} cannot be written ({error.strerror})") from None
    return page


def _page(folder: Path) -> str:
    if (folder / "suite.json").is_file():
        from fedrobust.reports.suite import suite_page

        _results(folder)
        return suite_page(folder)
    if (folder / "summary.json").is_file():
        from fedrobust.reports.run import run_page

        return run_page(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; give that of a run or of a suite")
    if folder.name.endswith(".partial"):
        raise UserError(
            f"{folder}: this run is not finished; go on with: fedrobust simulate --resume {folder}"
        )
    raise UserError(f"{folder}: neither a run's folder nor a suite's (no summary.json, no suite.json)")


def _export(folders: Sequence[Path], targets: Mapping[str, Path]) -> None:
    """Write a suite's table in the forms that are asked for."""
    flags = " and ".join(f"--{name}" for name in targets)
    if len(folders) > 1:
        raise UserError(f"{flags}: one table is one suite's; give one folder")
    (folder,) = folders
    if not (folder / "suite.json").is_file():
        raise UserError(f"{flags}: {folder} is not the folder of a suite; only suites have a table to export")
    from fedrobust.suites import export

    results = _results(folder)
    writers: Mapping[str, Callable[[Mapping[str, Any], Path], None]] = {
        "csv": export.write_csv,
        "parquet": export.write_parquet,
        "latex": export.write_latex,
    }
    for name, path in targets.items():
        writers[name](results, path)


def _results(folder: Path) -> Mapping[str, Any]:
    """Return what ``suite.json`` holds."""
    path = folder / "suite.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error})") from None
    if not isinstance(found, Mapping):
        raise UserError(f"{path}: this is not a suite's results")
    return found


if __name__ == "__main__":
    run_command(report)

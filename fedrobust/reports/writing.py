"""Writes the page of a run's or a suite's folder into it."""

from __future__ import annotations

from pathlib import Path

from fedrobust.errors import UserError
from fedrobust.results.files import read_record, write_text
from fedrobust.results.suite_records import SuiteResults

__all__ = ["FILE", "suite_results", "write_report"]

#: The page's name in its folder.
FILE = "report.html"


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
    page = folder / FILE
    try:
        write_text(page, text)
    except OSError as error:
        raise UserError(f"{page} cannot be written ({error.strerror})") from None
    return page


def _page(folder: Path) -> str:
    if (folder / "suite.json").is_file():
        from fedrobust.reports.suite.page import suite_page

        return suite_page(folder)
    if (folder / "summary.json").is_file():
        from fedrobust.reports.run.page import run_page

        return run_page(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; give that of a run or of a suite")
    if folder.name.endswith(".partial"):
        raise UserError(
            f"{folder}: this run is not finished; resume it with: fedrobust simulate --resume {folder}"
        )
    raise UserError(f"{folder}: neither a run's folder nor a suite's (no summary.json, no suite.json)")


def suite_results(folder: Path) -> SuiteResults:
    """Return what a suite's ``suite.json`` holds.

    Raises
    ------
    UserError
        If it cannot be read.
    """
    return read_record(folder / "suite.json", SuiteResults)

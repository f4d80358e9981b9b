"""One rule decides which rows are ranked: terminal, page, CSV and LaTeX agree on comparable and best."""

from __future__ import annotations

import csv
import re
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from suite_results import record, results

from fedrobust.reports.suite.rows import differences, rows
from fedrobust.reports.suite.tables import ranking_table
from fedrobust.reports.suite.view import SuiteView
from fedrobust.reports.suite.wording import headline
from fedrobust.results.suite_records import SuiteResults, SuiteRow
from fedrobust.suites.compare import ranking
from fedrobust.suites.export import write_csv, write_latex
from fedrobust.suites.tables import print_suite

MEANS = {"fedavg": 0.5, "krum": 0.9, "median": 0.7, "flame": 0.7 + 1e-12}
DISCARDED = "3 updates of honest hospitals discarded (seeds 0 to 2)"


@pytest.fixture
def suite() -> SuiteResults:
    """Return a suite in which krum is best but excluded, and two methods tie, one of them with a remark."""
    content: dict[str, Any] = results(("flip",), tuple(MEANS))
    for row in content["rows"]:
        mean = MEANS[row["labels"]["defence"]]
        row["metrics"] = {"accuracy": {"mean": mean, "low": None, "high": None, "values": [mean] * 3}}
    content["metrics"] = content["metrics"][:1]
    content["rows"][1]["caveats"] = [{"text": DISCARDED, "excludes": True}]
    content["rows"][2]["caveats"] = [{"text": "median had no effect (seed 0)", "excludes": False}]
    plain = SimpleNamespace(metric="accuracy", compared_axis="defence")
    typed = [SuiteRow.model_validate(row) for row in content["rows"]]
    entries = ranking(plain, typed)  # type: ignore[arg-type]
    return record({**content, "ranking": [entry.model_dump() for entry in entries]})


def test_ranking_gives_tied_methods_one_rank_and_the_excluded_none(suite: SuiteResults) -> None:
    assert {entry.label: entry.rank_by_worst for entry in suite.ranking} == {
        "fedavg": 3,
        "krum": None,
        "median": 1.5,
        "flame": 1.5,
    }


def test_terminal_prints_the_best_comparable_rows_bold(suite: SuiteResults) -> None:
    console = Console(file=StringIO(), record=True, width=80, force_terminal=True)
    print_suite(suite, None, console)
    text = console.export_text(styles=True)
    line = next(line for line in text.splitlines() if "flip" in line)
    assert re.findall(r"\x1b\[1m\s*(\S+?)\x1b", line) == [".700", ".700"]
    assert f"† {DISCARDED}; not ranked" in text


def test_page_highlights_the_best_comparable_rows(suite: SuiteResults) -> None:
    view = SuiteView(suite)
    assert {row["method"]: row["metrics"]["accuracy"][4] for row in rows(view)} == {
        "fedavg": 0,
        "krum": 0,
        "median": 1,
        "flame": 1,
    }
    assert headline(view).startswith("median and flame keep the most accuracy")
    assert [line[:1] + line[3:4] for line in ranking_table(view).rows] == [
        ["median", 1.5],
        ["flame", 1.5],
        ["fedavg", 3],
        ["krum", None],
    ]


def test_csv_says_which_rows_are_comparable(suite: SuiteResults, tmp_path: Path) -> None:
    write_csv(suite, tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        found = {row["defence"]: (row["comparable"], row["caveats"]) for row in csv.DictReader(file)}
    assert found["krum"] == ("no", DISCARDED)
    assert found["median"] == ("yes", "median had no effect (seed 0)")
    assert found["fedavg"] == found["flame"] == ("yes", "")


def test_latex_sets_the_best_comparable_rows_bold(suite: SuiteResults, tmp_path: Path) -> None:
    write_latex(suite, tmp_path / "table.tex")
    text = (tmp_path / "table.tex").read_text(encoding="utf-8")
    bold = [line for line in text.splitlines() if r"\mathbf" in line]
    assert [re.split(r"\s*&\s*", line)[1] for line in bold] == ["median$^{2}$", "flame"]
    assert f"{DISCARDED}; not ranked." in text


def test_page_shows_no_difference_within_the_tolerance_as_worse() -> None:
    content = results(("flip",), ("fedavg", "krum"))
    for line in content["comparisons"]:
        line |= {"difference": -1e-17, "low": -2e-17, "high": 1e-17}
    values = differences(SuiteView(record(content)))["metrics"]["accuracy"]["values"]
    assert [value and value[:3] for value in values] == [[0.0, 0.0, 0.0]]

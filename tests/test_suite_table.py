from __future__ import annotations

import pytest
from suite_results import record, results

from fedrobust.results.suite_records import Caveat, Estimate
from fedrobust.results.suite_table import TIE, SuiteTable, merge_ties
from fedrobust.suites.text import digits, listed, several


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        *(
            (0.6134, "share", ".613"),
            (1.0, "share", "1.000"),
            (-0.05, "share", "-.050"),
            (0.0, "share", ".000"),
        ),
        *((-0.0001, "share", ".000"), (0.9999, "share", "1.000"), (12.34, "percent", "12.3")),
        *((-0.04, "percent", "0.0"), (0.5, "percent", "0.5"), (2.0, "count", "2.0"), (None, "share", "–")),
    ],
)
def test_digits_write_a_value_by_its_unit(value: float | None, unit: str, text: str) -> None:
    assert digits(value, unit) == text


def test_digits_of_a_difference_have_a_sign() -> None:
    shown = [digits(value, "share", signed=True) for value in (0.05, -0.05, 0.0, -1.5)]
    assert shown == ["+.050", "-.050", ".000", "-1.500"]
    assert digits(3.0, "percent", signed=True) == "+3.0"


def test_conditions_combine_all_axes_but_the_methods() -> None:
    table = SuiteTable(record(results(("none", "ipm"), ("fedavg", "krum"), splits=("iid", "sites"))))
    assert table.condition_axes == ("threat", "partition")
    assert table.conditions == [("none", "iid"), ("none", "sites"), ("ipm", "iid"), ("ipm", "sites")]
    assert table.methods == ["fedavg", "krum"]
    row = table.row(("ipm", "iid"), "krum")
    assert row is not None
    assert row.labels == {"threat": "ipm", "partition": "iid", "defence": "krum"}
    assert table.row(("ipm", "iid"), "median") is None
    assert table.estimate(("ipm", "iid"), "median", "accuracy") == Estimate()


def test_suite_without_methods_has_one_without_a_name() -> None:
    suite = results(("none", "ipm"), ("fedavg", "krum"))
    suite["method_axis"] = ""
    table = SuiteTable(record(suite))
    assert table.methods == [""]
    assert len(table.conditions) == 4


def test_best_leaves_out_rows_with_an_excluding_caveat() -> None:
    suite = results(("none",), ("fedavg", "krum", "oracle"))
    for row, value in zip(suite["rows"], (0.5, 0.7, 0.9), strict=True):
        row["metrics"]["accuracy"]["mean"] = row["metrics"]["ece"]["mean"] = value
    table = SuiteTable(record(suite))
    assert table.best(("none",), "accuracy") == 0.7
    assert table.best(("none",), "ece") == 0.5
    suite["rows"][0]["metrics"]["accuracy"]["mean"] = None
    table = SuiteTable(record(suite))
    assert table.best(("none",), "accuracy") is None
    assert table.best(("none",), "unheard-of") is None


def test_caveats_common_to_all_rows_belong_to_the_method() -> None:
    suite = results(("none", "ipm"), ("fedavg", "oracle"))
    suite["rows"][0]["caveats"] = [{"text": "2 of 3 seeds"}]
    table = SuiteTable(record(suite))
    seeds = Caveat(text="2 of 3 seeds")
    oracle = Caveat(text="oracle upper bound: knows who is malicious", excludes=True)
    assert table.signs == {seeds: "†", oracle: "‡"}
    assert table.common_caveats("oracle") == [oracle]
    assert table.common_caveats("fedavg") == []


def test_signs_of_many_caveats_are_distinct() -> None:
    suite = results()
    suite["rows"][0]["caveats"] = [{"text": f"caveat {number}"} for number in range(7)]
    signs = list(SuiteTable(record(suite)).signs.values())
    assert len(set(signs)) == len(signs) == 8
    assert signs[3:6] == ["¶", "[5]", "[6]"]


def test_best_rows_within_the_tolerance_tie() -> None:
    suite = results(("none",), ("fedavg", "krum", "median"))
    for row, value in zip(suite["rows"], (0.7, 0.7 + TIE / 10, 0.6), strict=True):
        row["metrics"]["accuracy"]["mean"] = value
    table = SuiteTable(record(suite))
    best = [table.is_best(("none",), method, "accuracy") for method in table.methods]
    assert best == [True, True, False]


def test_ties_are_merged_in_runs_from_the_smallest() -> None:
    assert merge_ties([0.3, 0.1 + 0.2, 0.5, 0.4]) == [0.3, 0.3, 0.5, 0.4]
    assert merge_ties([]) == []


def test_numbers_and_lists_are_written_as_words() -> None:
    assert [several(number, "cell") for number in (0, 1, 2)] == ["0 cells", "1 cell", "2 cells"]
    assert [listed(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]

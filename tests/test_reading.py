from __future__ import annotations

import pytest
from suite_results import results

from fedrobust.suites.reading import Reading, digits, listed, several


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
def test_figures_are_written_for_reading(value: float | None, unit: str, text: str) -> None:
    assert digits(value, unit) == text


def test_differences_have_a_sign() -> None:
    shown = [digits(value, "share", signed=True) for value in (0.05, -0.05, 0.0, -1.5)]
    assert shown == ["+.050", "-.050", ".000", "-1.500"]
    assert digits(3.0, "percent", signed=True) == "+3.0"


def test_conditions_are_all_axes_but_the_methods() -> None:
    reading = Reading(results(("none", "ipm"), ("fedavg", "krum"), splits=("iid", "sites")))
    assert reading.axes == ["threat", "partition"]
    assert reading.conditions == [("none", "iid"), ("none", "sites"), ("ipm", "iid"), ("ipm", "sites")]
    assert reading.methods == ["fedavg", "krum"]
    row = reading.row(("ipm", "iid"), "krum")
    assert row is not None
    assert row["labels"] == {"threat": "ipm", "partition": "iid", "defence": "krum"}
    assert reading.row(("ipm", "iid"), "median") is None
    assert reading.spread(("ipm", "iid"), "median", "accuracy") == {"mean": None, "low": None, "high": None}


def test_without_methods_there_is_one_without_a_name() -> None:
    suite = results(("none", "ipm"), ("fedavg", "krum"))
    suite["method_axis"] = ""
    reading = Reading(suite)
    assert reading.methods == [""]
    assert len(reading.conditions) == 4


def test_the_best_is_the_best_of_the_unmarked() -> None:
    suite = results(("none",), ("fedavg", "krum", "oracle"))
    for row, value in zip(suite["rows"], (0.5, 0.7, 0.9), strict=True):
        row["metrics"]["accuracy"]["mean"] = row["metrics"]["ece"]["mean"] = value
    reading = Reading(suite)
    assert reading.best(("none",), "accuracy") == 0.7
    assert reading.best(("none",), "ece") == 0.5
    suite["rows"][0]["metrics"]["accuracy"]["mean"] = None
    assert reading.best(("none",), "accuracy") is None
    assert reading.best(("none",), "unheard-of") is None


def test_caveats_that_all_rows_of_a_method_share_belong_to_it() -> None:
    suite = results(("none", "ipm"), ("fedavg", "oracle"))
    suite["rows"][0]["caveats"] = ["2 of 3 seeds"]
    reading = Reading(suite)
    assert reading.signs == {"2 of 3 seeds": "†", "oracle: is told who is malicious": "‡"}
    assert reading.common_caveats("oracle") == ["oracle: is told who is malicious"]
    assert reading.common_caveats("fedavg") == []


def test_every_caveat_has_a_sign_of_its_own() -> None:
    suite = results()
    suite["rows"][0]["caveats"] = [f"caveat {number}" for number in range(7)]
    signs = list(Reading(suite).signs.values())
    assert len(set(signs)) == len(signs) == 8
    assert signs[3:6] == ["¶", "[5]", "[6]"]


def test_words_of_sentences() -> None:
    assert [several(number, "cell") for number in (0, 1, 2)] == ["0 cells", "1 cell", "2 cells"]
    assert [listed(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]

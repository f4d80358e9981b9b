"""The page of a suite: its headline, escaping of names, and how gaps are shown."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Literal

import pytest
import suite_results

from fedrobust.evaluation.metrics import Unit
from fedrobust.reports.suite.page import suite_page
from fedrobust.reports.suite.plots import budget_plot, cost_plot
from fedrobust.reports.suite.reading import sense, side, test_limit
from fedrobust.reports.suite.rows import differences, rows
from fedrobust.reports.suite.tables import budget_table, cost_table, ranking_table
from fedrobust.reports.suite.view import SuiteView, interval_text, join, run_link, shade, text
from fedrobust.reports.suite.wording import facts, headline
from fedrobust.results.suite_records import AttackBudget, Estimate, MetricInfo, SuiteCosts
from fedrobust.suites.caveats import ORACLE, OTHER_DATA

HOSTILE = "</script><img src=x onerror=alert(1)>"
# pytest would take the function for a test.
limit_of = test_limit
del test_limit


class Page(HTMLParser):
    """A page's start tags, and the text of each element that has an id."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.source = source
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def section(self, name: str) -> str:
        (inside,) = re.findall(rf'<section id="{name}".*?</section>', self.source, re.DOTALL)
        return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", inside)))

    @property
    def data(self) -> dict[str, Any]:
        (found,) = re.findall(r'id="embedded">(.*?)</script>', self.source, re.DOTALL)
        return dict(json.loads(found)["suite"])


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Page]:
    def make(results: dict[str, Any] | None = None, costs: bool = True) -> Page:
        content = results or suite_results.results()
        (tmp_path / "suite.json").write_text(json.dumps(content), encoding="utf-8")
        if costs:
            (tmp_path / "costs.json").write_text(json.dumps(suite_results.costs(content)), encoding="utf-8")
        return Page(suite_page(tmp_path))

    return make


def suite_metric(better: Literal["higher", "lower"] | None, unit: Unit = "share") -> MetricInfo:
    return MetricInfo(key="ece", name="ECE", better=better, unit=unit, about="Off.")


def cost_rows(*rows: dict[str, Any]) -> SuiteCosts:
    return suite_results.cost_record({"rows": list(rows)})


def attack_budget(view: SuiteView) -> AttackBudget:
    budget = view.results.attack_budget
    assert budget is not None
    return budget


def small(values_by_place: dict[tuple[str, str], list[float | None]], **more: Any) -> SuiteView:
    """Return a suite of one metric from values by condition and method; 95 % ends are their extremes."""
    conditions = list(dict.fromkeys(condition for condition, _ in values_by_place))
    methods = list(dict.fromkeys(method for _, method in values_by_place))
    caveats = more.pop("caveats", {})
    sign = -1 if more.get("metrics", [{}])[0].get("better") == "lower" else 1
    table = []
    for (condition, method), values in values_by_place.items():
        estimate = suite_results._estimate(values)
        table.append(
            {
                "labels": {"threat": condition, "defence": method},
                "seeds": list(range(len(values))),
                "metrics": {"accuracy": estimate},
                "caveats": caveats.get(method, []),
                "cells": [
                    {"seed": seed, "run": f"../cells/{seed}", "error": None} for seed in range(len(values))
                ],
            }
        )
    content = {
        "name": "small",
        "title": "Small",
        "about": "",
        "command": "",
        "versions": {},
        "settings": {},
        "seeds": list(range(max(map(len, values_by_place.values())))),
        "axes": [{"name": "threat", "labels": conditions}, {"name": "defence", "labels": methods}],
        "method_axis": "defence",
        "reference": "fedavg",
        "metrics": [
            {"key": "accuracy", "name": "accuracy", "better": "higher", "unit": "share", "about": "Right."}
        ],
        "rows": table,
        "comparisons": [],
        "ranking": suite_results._ranking(table, methods, sign),
        "attack_budget": None,
        "missing": [],
        "notes": [],
        **more,
    }
    return SuiteView(suite_results.record(content))


def test_headline_names_worst_case_and_mean() -> None:
    view = small(
        {
            ("none", "fedavg"): [0.9, 0.9, 0.9],
            ("flip", "fedavg"): [0.3, 0.3, 0.3],
            ("none", "krum"): [0.6, 0.6, 0.6],
            ("flip", "krum"): [0.5, 0.5, 0.5],
        }
    )
    assert headline(view) == (
        "krum keeps the most accuracy in the worst case (0.500, under flip), fedavg on average (0.600). "
        "Its worst-case lead over fedavg is outside the 95 % intervals."
    )


def test_headline_says_that_a_lead_is_within_the_intervals() -> None:
    view = small({("flip", "fedavg"): [0.5, 0.6, 0.7], ("flip", "krum"): [0.55, 0.65, 0.75]})
    assert headline(view).endswith("Its lead over fedavg is within the 95 % intervals.")
    assert "the intervals overlap, so their order is not certain." in " ".join(dict(facts(view))["Certainty"])


@pytest.mark.parametrize("caveat", [ORACLE, OTHER_DATA, "2 updates of honest hospitals discarded (seed 0)"])
def test_headline_with_an_excluded_row_names_the_best_comparable_method(caveat: str) -> None:
    excluding = {"text": caveat, "excludes": True}
    view = small({("flip", "fedavg"): [0.5], ("flip", "oracle"): [0.9]}, caveats={"oracle": [excluding]})
    assert headline(view).startswith(
        "Seen with one seed only, so it may be chance: fedavg keeps the most accuracy"
    )
    assert dict(facts(view))["Not ranked"] == [
        f"oracle: 0.900 in the worst case, 0.900 on average; not ranked, {caveat}."
    ]
    # One comparable row has nothing to be better than.
    best = {row["method"]: row["metrics"]["accuracy"][4] for row in rows(view)}
    assert best == {"fedavg": 0, "oracle": 0}
    ranks = {line[0]: line[3] for line in ranking_table(view).rows}
    assert ranks == {"fedavg": 1, "oracle": None}


def test_headline_with_a_remark_ranks_the_row() -> None:
    remark = {"text": "1 of 2 seeds"}
    view = small(
        {("flip", "fedavg"): [0.5], ("flip", "krum"): [0.9]},
        caveats={"krum": [{**remark, "excludes": False}]},
    )
    best = {row["method"]: row["metrics"]["accuracy"][4] for row in rows(view)}
    assert best == {"fedavg": 0, "krum": 1}
    assert "krum keeps the most" in headline(view)


def test_headline_without_a_ranked_method_says_why() -> None:
    view = small({("flip", "fedavg"): [], ("flip", "krum"): []})
    assert headline(view) == "No defence can be ranked: no cell is finished."


def test_headline_with_a_lower_is_better_metric_names_the_smallest() -> None:
    metric = {"key": "accuracy", "name": "error", "better": "lower", "unit": "share", "about": "Wrong."}
    view = small({("flip", "fedavg"): [0.5], ("flip", "krum"): [0.9]}, metrics=[metric], metric="accuracy")
    assert "fedavg has the lowest error (0.500)" in headline(view)


def test_facts_give_the_difference_where_the_reference_is_worst() -> None:
    view = SuiteView(suite_results.record(suite_results.results()))
    text_of = " ".join(dict(facts(view))["Certainty"])
    assert "Where fedavg does worst (under ipm(scale=2)) it is" in text_of
    assert "with 3 seeds no p can fall below 0.25: the test is not decisive." in text_of


def test_suite_page_with_few_seeds_says_so_and_gives_no_interval(made: Callable[..., Page]) -> None:
    page = made(suite_results.results(seeds=(0,)))
    assert re.search(r"<h1>Seen with one seed only, so it may be chance", page.source)
    assert "Not known: one seed gives no interval and no test." in page.source
    assert "Fewer than 3 seeds: no intervals and no tests" in page.section("differences")
    assert not re.search(r"<small>[\d.]+ to", page.source)


def test_test_limit_is_given_only_for_few_seeds() -> None:
    assert limit_of(SuiteView(suite_results.record(suite_results.results(seeds=(0,))))) == ""
    assert "no p can fall below 0.25" in limit_of(
        SuiteView(suite_results.record(suite_results.results(seeds=range(3))))
    )
    assert limit_of(SuiteView(suite_results.record(suite_results.results(seeds=range(6))))) == ""


def test_suite_page_has_all_parts(made: Callable[..., Page]) -> None:
    page = made()
    ids = [a["id"] for a in page.all("section")]
    assert ids == ["map", "ranking", "differences", "costs", "all", "missing", "made"]
    assert {a["href"] for a in page.all("a") if a["href"] and a["href"].startswith("#")} == {
        "#main",
        *(f"#{name}" for name in ids),
    }
    cells = len(suite_results.THREATS) * len(suite_results.DEFENCES)
    assert len([a for a in page.all("button") if "data-row" in a]) == cells
    assert all(a["aria-label"] for a in page.all("button") if "data-row" in a)
    runs = [a for a in page.all("a") if (a["href"] or "").startswith("../cells/")]
    assert len(runs) == 3 * cells and all(
        a["href"].endswith("/report.html") and a["aria-label"] for a in runs
    )
    assert "python -m fedrobust.benchmark defences" in page.section("made") and "phantom" in page.section(
        "made"
    )
    assert "torch 2.9.0" in page.section("made")
    assert "The images are synthetic" in page.source


def test_suite_page_escapes_names(made: Callable[..., Page]) -> None:
    content = suite_results.results(threats=("none", HOSTILE), defences=("fedavg", f"krum{HOSTILE}"))
    content["title"] = content["about"] = content["command"] = HOSTILE
    content["notes"] = [HOSTILE]
    content["metrics"][0]["name"] = content["metrics"][0]["about"] = HOSTILE
    content["rows"][0]["caveats"] = [{"text": HOSTILE}]
    content["rows"][0]["cells"][0] |= {"run": None, "error": HOSTILE}
    content["missing"] = [{"labels": content["rows"][0]["labels"], "seed": 0, "error": HOSTILE}]
    page = made(content)
    assert page.all("img") == [] and "<img" not in page.source
    assert len(page.all("script")) == 4  # the data, plotly.js, base.js and suite.js
    assert HOSTILE in page.section("missing")
    # plotly reads tags in texts.
    found = cost_plot(
        SuiteView(suite_results.record(content), suite_results.cost_record(suite_results.costs(content)))
    )
    assert found is not None and "<img" not in json.dumps(found) and "&lt;/script&gt;" in json.dumps(found)


@pytest.mark.parametrize(
    ("run", "link"),
    [
        ("../cells/a-b", "../cells/a-b/report.html"),
        ("../cells/a b?#%", "../cells/a%20b%3F%23%25/report.html"),
        ("javascript:alert(1)//", "javascript%3Aalert%281%29/report.html"),
        (None, None),
    ],
)
def test_run_link_is_a_path_for_any_folder_name(run: str | None, link: str | None) -> None:
    assert run_link(run) == link


def test_suite_page_without_costs_says_so(made: Callable[..., Page]) -> None:
    page = made(costs=False)
    assert "not recorded" in page.section("costs")
    assert page.all("select") and "plotly" not in [a.get("id") for a in page.all("script")]
    assert "Not recorded." in page.source


def test_suite_page_lists_and_hatches_missing_cells(made: Callable[..., Page]) -> None:
    gone = [("label-flip", "krum", seed) for seed in range(3)]
    page = made(suite_results.results(failed=gone[:1], unrun=gone[1:]))
    listed = page.section("missing")
    assert "WorkerDied" in listed and listed.count("not run yet") == 2
    assert "3 of 60 cells are missing" in page.source
    assert "krum has no value under label-flip" in page.source
    assert 'aria-label="krum under label-flip: no value"' in page.source
    assert "0 failed" in page.section("all") and "1 not run" in page.section("all")


def test_suite_page_without_a_reference_compares_nothing(made: Callable[..., Page]) -> None:
    page = made(suite_results.results(reference=None))
    assert "differences" not in [a.get("id") for a in page.all("section")]
    assert "#differences" not in [a["href"] for a in page.all("a")]


def test_suite_page_of_one_method_is_complete(made: Callable[..., Page]) -> None:
    content = suite_results.results(reference=None)
    content |= {"method_axis": "", "ranking": []}
    page = made(content)
    assert "nothing is compared in this suite" in page.source
    assert len([a for a in page.all("button") if "data-row" in a]) == len(content["rows"])


def test_suite_page_without_any_run_is_complete(made: Callable[..., Page]) -> None:
    everything = [(t, d, s) for t in suite_results.THREATS for d in suite_results.DEFENCES for s in range(3)]
    page = made(suite_results.results(unrun=everything))
    assert "no cell is finished" in page.source


def test_shade_grows_with_damage_for_either_direction() -> None:
    higher = suite_metric(better="higher")
    lower = suite_metric(better="lower")
    assert shade(0.9, (0.1, 0.9), higher) == 0 and shade(0.1, (0.1, 0.9), higher) == 1
    assert shade(0.1, (0.1, 0.9), lower) == 0 and shade(0.9, (0.1, 0.9), lower) == 1
    # What differs by noise alone is not painted in the strongest colour.
    assert shade(0.5, (0.5, 0.501), higher) < 0.05
    assert shade(0.5, (0.5, 0.5), suite_metric(better=None, unit="count")) == 0


def test_sense_and_side_say_which_end_is_better() -> None:
    assert "a higher, so worse" in sense(suite_metric(better="lower"))
    assert "a lower, so worse" in sense(suite_metric(better="higher"))
    assert "Neither end is better" in sense(suite_metric(better=None))
    assert "which is worse; left of it, better" in side(suite_metric(better="lower"), "fedavg")
    assert "better" not in side(suite_metric(better=None), "fedavg")


def test_script_data_hold_every_metric(made: Callable[..., Page]) -> None:
    content = suite_results.results()
    data = made(content).data
    assert list(data["metrics"]) == [metric["key"] for metric in content["metrics"]]
    row = content["rows"][7]
    found = data["rows"][7]["metrics"]
    for key, figure in row["metrics"].items():
        if figure["mean"] is None:
            assert key not in found
        else:
            assert found[key][0] == pytest.approx(figure["mean"], rel=1e-4)
            assert found[key][5] == pytest.approx(figure["values"], rel=1e-4)
            assert 0 <= found[key][3] <= 1
    assert data["metrics"]["drop"]["digits"] == 1 and data["metrics"]["accuracy"]["digits"] == 3


def test_difference_axis_holds_zero_and_all_whiskers() -> None:
    found = differences(SuiteView(suite_results.record(suite_results.results())))
    assert len(found["pairs"]) == 4 * 4 and found["start"] == ""
    for metric in found["metrics"].values():
        ends = [end for value in metric["values"] if value for end in value[:3] if end is not None]
        assert metric["low"] < min(0, *ends) and metric["high"] > max(0, *ends)
        assert metric["low"] + metric["zero"] * (metric["high"] - metric["low"]) == pytest.approx(0, abs=1e-3)


def test_differences_of_a_large_suite_start_where_the_reference_is_worst() -> None:
    threats = [f"threat-{number}" for number in range(20)]
    assert (
        differences(SuiteView(suite_results.record(suite_results.results(threats=threats))))["start"]
        in threats
    )


def test_ranking_table_puts_unranked_methods_last() -> None:
    view = small(
        {("flip", "fedavg"): [0.5], ("flip", "oracle"): [0.9], ("flip", "krum"): [0.7]},
        caveats={"oracle": [{"text": ORACLE, "excludes": True}]},
    )
    assert [line[:1] + line[3:4] for line in ranking_table(view).rows] == [
        ["krum", 1],
        ["fedavg", 2],
        ["oracle", None],
    ]


def test_cost_is_mean_time_and_peak_memory() -> None:
    view = small({("none", "fedavg"): [0.5], ("flip", "fedavg"): [0.5]})
    view = SuiteView(
        view.results,
        cost_rows(
            {"labels": {"threat": "none", "defence": "fedavg"}, "aggregation_s": 0.01, "defence_mib": 3.0},
            {"labels": {"threat": "flip", "defence": "fedavg"}, "aggregation_s": 0.03, "defence_mib": None},
        ),
    )
    assert cost_table(view).rows == [["fedavg", pytest.approx(20.0), 3.0, 0.5]]


def test_cost_plot_shows_a_cost_of_zero() -> None:
    view = small({("none", "fedavg"): [0.5]})
    labels = {"threat": "none", "defence": "fedavg"}
    found = cost_plot(
        SuiteView(view.results, cost_rows({"labels": labels, "aggregation_s": 0.0, "defence_mib": 0.0}))
    )
    assert found is not None
    points = [trace["x"] for figure in found["choices"].values() for trace in figure["data"]]
    assert points == [[0.01], [0.1]]


def test_cost_plot_front_joins_the_methods_that_no_other_beats() -> None:
    names = ("fedavg", "krum", "median", "bulyan")
    view = small({("none", name): [value] for name, value in zip(names, (0.3, 0.6, 0.5, 0.8), strict=True)})
    costs = [
        {"labels": {"threat": "none", "defence": name}, "aggregation_s": seconds, "defence_mib": None}
        for name, seconds in zip(names, (0.001, 0.002, 0.003, 0.004), strict=True)
    ]
    found = cost_plot(SuiteView(view.results, cost_rows(*costs)))
    assert found is not None
    (figure,) = found["choices"].values()
    assert figure["data"][0]["y"] == [0.3, 0.6, 0.8]


def test_budget_plot_has_a_line_a_method_and_its_table_the_smallest_harmful_budget(
    made: Callable[..., Page],
) -> None:
    content = suite_results.results(
        threats=("label-flip", "ipm"), budgets=("0", "1", "2"), splits=("iid", "site")
    )
    page = made(content)
    assert "smallest malicious that costs 5 points or more" in page.section("budgets")
    view = SuiteView(suite_results.record(content))
    choices = budget_plot(view, attack_budget(view))["choices"]
    assert set(choices) == {"label-flip · iid", "label-flip · site", "ipm · iid", "ipm · site"}
    for figure in choices.values():
        assert [trace["name"] for trace in figure["data"]] == list(suite_results.DEFENCES)
        assert all(trace["x"] == ["0", "1", "2"] and len(trace["y"]) == 3 for trace in figure["data"])
    mean = content["rows"][0]["metrics"]["accuracy"]["mean"]
    assert choices["label-flip · iid"]["data"][0]["y"][0] == mean
    assert len(budget_table(view, attack_budget(view)).rows) == len(suite_results.DEFENCES)


def test_suite_page_without_damage_has_no_budget_section(made: Callable[..., Page]) -> None:
    nothing = suite_results.results(threats=("label-flip",), budgets=("0", "1"))
    nothing["attack_budget"]["metric"] = "unmeasured"
    assert 'id="budgets"' not in made(nothing).source
    methods = suite_results.results(threats=("label-flip",), budgets=("0", "1"))
    methods["attack_budget"]["axis"] = SuiteView(suite_results.record(methods)).method_axis
    assert 'id="budgets"' not in made(methods).source


def test_budget_table_has_words_where_no_budget_does_damage() -> None:
    content = suite_results.results(threats=("label-flip",), budgets=("0", "1"))
    for entry in content["attack_budget"]["smallest"]:
        entry["budget"] = None
    view = SuiteView(suite_results.record(content))
    assert {line[1] for line in budget_table(view, attack_budget(view)).rows} == {"none tried"}


def test_text_follows_the_unit() -> None:
    assert text(0.5, "share") == "0.500" and text(12.34, "percent") == "12.3" and text(2.0, "count") == "2.0"
    assert (
        text(-0.0001, "share") == "0.000" and text(-0.1, "share") == "−0.100" and text(None, "share") == "–"
    )
    assert interval_text(Estimate(high=0.2), "share") == ""
    assert join(["a"]) == "a" and join(["a", "b", "c"]) == "a, b and c"


def test_cost_plot_with_tied_values_has_a_least_range() -> None:
    view = small({("flip", "fedavg"): [0.1 + 0.2] * 3, ("flip", "krum"): [0.3] * 3})
    costs = [
        {"labels": {"threat": "flip", "defence": method}, "seconds": 1.0, "aggregation_s": 0.1 * place}
        for place, method in enumerate(("fedavg", "krum"), 1)
    ]
    found = cost_plot(SuiteView(view.results, suite_results.cost_record({"rows": costs})))
    assert found is not None
    (chosen,) = found["choices"].values()
    axis = chosen["layout"]["yaxis"]
    assert axis["range"] == pytest.approx([0.275, 0.325]) and axis["tickformat"] == ".3~f"
    assert [trace for trace in chosen["data"] if trace["mode"] == "lines"] == []


def test_difference_axis_of_tied_values_has_a_least_range() -> None:
    comparison = {"labels": {"threat": "flip", "defence": "krum"}, "metric": "accuracy", "against": "fedavg"}
    numbers = {"difference": 1e-17, "low": -1e-17, "high": 1e-17, "p": 1.0, "p_holm": 1.0, "seeds": 3}
    values = {("flip", "fedavg"): [0.3] * 3, ("flip", "krum"): [0.3] * 3}
    found = differences(small(values, comparisons=[{**comparison, **numbers}]))["metrics"]["accuracy"]
    assert (found["low"], found["high"], found["zero"]) == pytest.approx((-0.0025, 0.0025, 0.5))

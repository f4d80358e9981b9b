from __future__ import annotations

import re
from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from suite_results import DEFENCES, THREATS, cost_record, costs, record, results

from fedrobust.suites.tables import print_suite
from fedrobust.suites.text import digits

Suite = dict[str, Any]
TWELVE = (
    *DEFENCES,
    "nnm | krum",
    "median",
    "geometric-median",
    "bucketing(s=2) | krum",
    "dnc",
    "flame",
    "zeno",
)


def show(suite: Suite, given: dict[str, Any] | None = None, width: int = 80, metric: str = "accuracy") -> str:
    console = Console(width=width, file=StringIO())
    made = costs(suite) if given is None else given
    print_suite(record(suite), cost_record(made) if made else None, console, metric=metric)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def section(text: str, title: str) -> str:
    """Return what stands from one title to the next (a line after a blank one that is not a table's)."""
    start = text.index(title)
    following = [text.find(f"\n\n{other}", start) for other in TITLES]
    return text[start : min((place for place in following if place > 0), default=len(text))]


TITLES = ("Lost", "Loss", "Accuracy", "Ranks", "Difference", "Detection", "Smallest", "Costs", "Missing")

MADE_UP = {
    "three": results(THREATS[:3], DEFENCES[:3]),
    "twelve": results(THREATS, TWELVE),
    "two axes": results(THREATS, DEFENCES, splits=("iid", "dirichlet(alpha=0.3)")),
    "budgets": results(THREATS[:2], DEFENCES, budgets=("1", "2", "4")),
    "one seed": results(THREATS, DEFENCES, (0,)),
    "one of each": results(("none",), ("fedavg",), (0,)),
    "failed": results(THREATS, DEFENCES, failed=[("none", "krum", 1), ("label-flip", "fedavg", 2)]),
    "many seeds": results(THREATS, TWELVE, tuple(range(10))),
}


@pytest.mark.parametrize("name", MADE_UP)
@pytest.mark.parametrize("width", [80, 120])
def test_suite_at_any_width_prints_every_value(name: str, width: int) -> None:
    suite = MADE_UP[name]
    text = show(suite, width=width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    for axis in suite["axes"]:
        for label in axis["labels"]:
            assert label in text
    first = section(text, "Accuracy")
    for row in suite["rows"]:
        estimate = row["metrics"]["accuracy"]
        shown = digits(estimate["mean"], "share")
        if estimate["low"] is not None:
            shown += f" ±{digits((estimate['high'] - estimate['low']) / 2, 'share')}"
        assert shown in first
    for line in suite["comparisons"]:
        assert digits(line["difference"], "share", signed=True) in text or line["metric"] != "accuracy"


def test_name_longer_than_a_line_is_folded() -> None:
    long = "backdoor(size=0.05) + boost(factor=10) + forge-loss + forge-size(factor=3) + another one of these"
    text = show(
        results(
            ("none", long), ("fedavg", "nnm | bucketing(s=2) | trimmed-mean(share=0.2) | clipping(norm=3)")
        )
    )
    assert max(len(line) for line in text.splitlines()) <= 80
    for word in long.split():
        assert word in text
    assert "trimmed-mean(share=0.2)" in text


def test_methods_that_fit_are_columns_else_rows() -> None:
    few = section(show(results(("none", "ipm"), DEFENCES[:3])), "Accuracy").splitlines()
    assert re.split(r"\s{2,}", few[1].strip()) == ["threat", "fedavg", "krum", "nnm | trimmed-mean"]
    many = section(show(results(("none", "ipm"), TWELVE)), "Accuracy").splitlines()
    assert many[1].split() == ["defence", "none", "ipm"]
    assert len([line for line in many[1:] if "±" in line]) == 12


def test_grid_puts_each_value_in_its_row_and_column() -> None:
    suite = results(("none", "ipm"), ("fedavg", "krum"))
    lines = section(show(suite), "Accuracy").splitlines()
    by_condition = {line.split()[0]: re.findall(r"\.\d{3}(?= ±)", line) for line in lines[3:5]}
    means = [digits(row["metrics"]["accuracy"]["mean"], "share") for row in suite["rows"]]
    assert by_condition == {"none": means[:2], "ipm": means[2:]}


def test_metric_that_is_asked_for_is_shown() -> None:
    suite = results(THREATS[:2], DEFENCES[:3])
    text = show(suite, metric="drop")
    assert "Combined drop (%), mean over 3 seeds" in text
    assert "Difference to fedavg, combined drop (%)" in text
    for row in suite["rows"]:
        assert digits(row["metrics"]["drop"]["mean"], "percent") + " ±" in text
    assert "Difference" not in show(suite, metric="ece")  # of which no differences were taken
    assert "Accuracy, mean over" in show(suite, metric="unheard-of")


def test_undefined_values_are_dashes() -> None:
    suite = results(THREATS[:3], ("fedavg", "krum"))
    text = show(suite, metric="attack_success_rate")
    line = next(line for line in text.splitlines() if line.startswith("none"))
    assert line.split() == ["none", "–", "–"]
    assert "nan" not in text.lower() and "None" not in text


def test_one_seed_gives_no_interval_and_no_p() -> None:
    text = show(MADE_UP["one seed"])
    assert "Accuracy, one seed\n" in text
    assert not re.search(r"±|95 %|\bp\b", text)
    assert "Difference to fedavg, accuracy (paired by seed)\n" in text


def test_p_values_that_differ_stand_beside_the_differences() -> None:
    suite = results(("none", "ipm"), ("fedavg", "krum", "median"))
    assert "sign-flip p after Holm: 1 throughout" in " ".join(show(suite).split())
    accuracies = [line for line in suite["comparisons"] if line["metric"] == "accuracy"]
    for line, p in zip(accuracies, (0.0004, 0.012, 0.3, 1.0), strict=True):
        line["p_holm"] = p
    text = section(show(suite), "Difference")
    assert re.findall(r"p ((?:< )?[\d.]+)", text.split("\n", 2)[2]) == ["< 0.001", "0.012", "0.3", "1"]
    assert "throughout" not in text
    accuracies[0]["p_holm"] = accuracies[0]["p"] = None  # an oracle's is not tested
    assert len(re.findall(r"\] p ", section(show(suite), "Difference"))) == 3


def test_ranking_puts_unranked_methods_last() -> None:
    suite = results(THREATS[:2], ("fedavg", "krum", "oracle"))
    for entry in suite["ranking"]:
        if entry["label"] == "oracle":
            entry |= {"rank_by_worst": None, "rank_by_mean": None, "mean_rank": None}
        if entry["label"] == "krum":
            entry |= {"rank_by_worst": 1.5, "caveats": ["some conditions are missing"]}
    text = section(show(suite), "Ranks")
    lines = text.splitlines()[3:6]
    assert [line.split()[0] for line in lines] == ["krum", "fedavg", "oracle†"]
    assert lines[0].split()[2] == "1.5"
    assert lines[2].split()[2] == lines[2].split()[-1] == "–"
    assert "label-flip" in lines[1]
    assert "krum: not ranked, some conditions are missing." in text


def test_ranking_of_one_condition_has_no_worst_case() -> None:
    text = section(show(results(("ipm",), DEFENCES[:3])), "Ranks")
    assert "worst" not in text
    assert text.splitlines()[1].split() == ["defence", "accuracy", "rank"]


def test_caveats_are_signs_explained_below() -> None:
    suite = results(THREATS[:2], ("fedavg", "krum", "oracle"))
    suite["rows"][1]["caveats"] = [{"text": "2 of 3 seeds"}]
    text = section(show(suite), "Accuracy")
    assert "oracle‡" in text  # the name, as all of its rows have the caveat
    assert len(re.findall(r"\d†", text)) == 1  # the value alone
    assert "† 2 of 3 seeds\n" in text
    assert "‡ oracle upper bound: knows who is malicious; not ranked" in text


def test_detection_is_averaged_over_conditions_that_define_it() -> None:
    suite = results(THREATS[:3], ("fedavg", "krum"))
    recalls = [
        row["metrics"]["detection_recall"]["mean"]
        for row in suite["rows"]
        if row["labels"]["defence"] == "krum"
    ]
    assert recalls[0] is None
    line = next(line for line in section(show(suite), "Detection").splitlines() if line.startswith("krum"))
    assert digits((recalls[1] + recalls[2]) / 2, "share") == line.split()[2]
    for row in suite["rows"]:
        row["metrics"] = {"accuracy": row["metrics"]["accuracy"]}
    assert "Detection" not in show(suite)


def test_budgets_without_damage_are_dashes() -> None:
    text = section(show(MADE_UP["budgets"]), "Smallest")
    assert "Smallest 'malicious' that costs 5 points (accuracy; – where none does)" in text
    assert text.splitlines()[1].split()[0] == "threat"
    assert [line.split() for line in text.splitlines()[3:]] == [
        ["none", *"–––––"],
        ["label-flip", "1", "2", "4", "–", "–"],
    ]
    assert "Smallest" not in show(MADE_UP["three"])


def test_costs_are_means_and_largest_memory() -> None:
    suite = results(("none", "ipm"), ("fedavg", "krum"))
    rows = costs(suite)["rows"]
    rows[0] |= {"seconds": 10.0, "aggregation_s": 0.002, "defence_mib": 3.0}
    rows[2] |= {"seconds": 20.0, "aggregation_s": 0.003, "defence_mib": 5.0}
    rows[1]["defence_mib"] = rows[3]["defence_mib"] = None
    text = section(show(suite, {"rows": rows}), "Costs")
    assert next(line for line in text.splitlines() if line.startswith("fedavg")).split() == [
        "fedavg",
        "15.0",
        "2.5",
        "5.0",
    ]
    assert next(line for line in text.splitlines() if line.startswith("krum")).split()[-1] == "–"
    assert "Costs" not in show(suite, {})


def test_missing_cells_are_named_in_sentences() -> None:
    suite = results(
        THREATS[:2],
        DEFENCES[:3],
        failed=[("none", "krum", 0), ("none", "krum", 2)],
        unrun=[("label-flip", "fedavg", 1)],
    )
    text = section(show(suite), "Missing")
    assert "Missing: 3 cells" in text
    assert "none · krum, seeds 0 and 2: failed: WorkerDied: the worker process" in text
    assert "label-flip · fedavg, seed 1: not run yet." in text


def test_many_missing_cells_are_partly_counted() -> None:
    everything = [(threat, defence, seed) for threat in THREATS for defence in DEFENCES for seed in range(3)]
    suite = results(unrun=everything)
    text = show(suite)
    assert "And 12 more like these: see 'missing' in suite.json." in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_suite_without_finished_or_compared_cells_is_printed() -> None:
    suite = results(
        THREATS[:2], DEFENCES[:2], unrun=[(t, d, s) for t in THREATS for d in DEFENCES for s in range(3)]
    )
    suite |= {"metrics": [], "comparisons": []}
    for row in suite["rows"]:
        row["metrics"] = {}
    assert "Missing: 12 cells" in show(suite, {"rows": []})
    plain = results(THREATS[:2], DEFENCES[:2], reference=None)
    plain |= {"method_axis": "", "ranking": []}
    text = show(plain)
    assert "none · krum" in text
    assert "Difference" not in text and "Ranks" not in text


def test_notes_are_printed_first() -> None:
    lines = show(MADE_UP["one seed"]).splitlines()
    assert lines[1].startswith("Note: The images are synthetic")


def test_labels_with_markup_stay_text() -> None:
    text = show(results(("[red]none[/red]", "[/]"), ("fedavg", "[bold]krum")))
    assert "[red]none[/red]" in text
    assert "[bold]krum" in text


def test_suite_of_a_dozen_rows_stays_short() -> None:
    suite = results(("none", "label-flip", "ipm"), ("fedavg", "krum", "nnm | krum", "isolation-forest"), (0,))
    assert len(show(suite).splitlines()) <= 65


def test_drop_is_printed_beside_its_components() -> None:
    suite = results(("none", "ipm"), DEFENCES[:2])
    lines = section(show(suite), "Drop from clean").splitlines()
    row = suite["rows"][0]
    (line,) = [line for line in lines if line.startswith("none")]
    values = [
        row["metrics"][key]["mean"]
        for key in ("drop", "drop_accuracy", "drop_macro_f1", "drop_macro_precision")
    ]
    combined, *parts = (f"{value:.1f}" for value in values)
    assert f"{combined} ({' '.join(parts)})" in line
    for row in suite["rows"]:
        del row["metrics"]["drop"]
    suite["metrics"] = [metric for metric in suite["metrics"] if metric["key"] != "drop"]
    assert "Drop from" not in show(suite)

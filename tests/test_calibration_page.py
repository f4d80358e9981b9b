"""The page of the default defence's calibration, on made-up results."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.calibration import BENIGN, TABLES, plan
from benchmarks.calibration_page import Key, RunMetrics, interval, page, ranks
from fedrobust.settings import Settings

PLAIN = RunMetrics(accuracy=0.7, auroc=0.9, false_flags=0.01, lightest=0.8, success=0.2)


def runs(seeds: int = 3) -> dict[Key, Settings]:
    base = Settings(clients=10, networks=1, local_epochs=1, rounds=2)
    return dict(plan(TABLES, ["phantom"], range(seeds), base))


def made_up() -> dict[Key, RunMetrics]:
    """Return metrics of every run; ours is a point better than the others, and better with every seed."""
    return {
        key: replace(PLAIN, accuracy=0.7 + 0.01 * (key.strategy == "isolation-forest") + 0.001 * key.seed)
        for key in runs()
    }


def cells(text: str, title: str) -> list[list[str]]:
    part = text.split(f"## {title}\n")[1].split("\n## ")[0]
    rows = [line for line in part.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_prose_and_columns_of_the_page_are_those_of_its_script() -> None:
    kept = (Path(__file__).resolve().parents[1] / "docs" / "calibration.md").read_text().splitlines()
    made = page(made_up(), "About.", "").splitlines()
    heads = ("| data |", "| strategy |")
    lines = [line for line in made if not line.startswith("| ") or line.startswith(heads)]
    varying = ("About.", "dirichlet(0.3). ")
    assert [line for line in lines if line not in kept and not line.startswith(varying)] == []


def test_page_shows_each_metric_in_its_column() -> None:
    text = page(made_up(), "About.", "Notes.\n")
    attacked = dict(zip(*cells(text, "Attacked: two of ten")[:2], strict=True))
    assert (attacked["seeds"], attacked["accuracy"]) == ("3", "0.711 ± 0.002")
    assert attacked["points to the oracle"] == "-1.0 ± 0.0"
    benign = [
        dict(zip(cells(text, "No malicious hospital")[0], row, strict=True))
        for row in cells(text, "No malicious hospital")[1:]
    ]
    assert {row["federation"] for row in benign} == {label for label, _, _ in BENIGN}
    assert {row["lightest hospital"] for row in benign} == {"0.80"}
    skewed = cells(text, "Strong label skew: all rules")
    first = dict(zip(skewed[0], skewed[1], strict=True))
    assert (first["strategy"], first["mean rank in accuracy"]) == ("isolation-forest", "1.00")
    assert first["accuracy minus FedAvg's, points"] == "1.0 ± 0.0"
    assert ["phantom", "nnm &#124; isolation-forest", "3"] in [row[:3] for row in cells(text, "Backdoors")]
    assert text.endswith("\nNotes.\n")


def test_table_without_runs_is_said_to_be_not_run() -> None:
    found = {key: one for key, one in made_up().items() if key.table == "backdoors"}
    assert page(found, "About.", "").count("Not run.") == 3


def test_oracle_of_a_cell_knows_its_malicious_hospitals() -> None:
    oracles = [settings for key, settings in runs(1).items() if key.strategy == "oracle"]
    assert oracles and all(settings.malicious == 2 for settings in oracles)
    assert all(settings.strategy.startswith("oracle(malicious=[") for settings in oracles)


def test_ties_share_the_mean_of_their_ranks() -> None:
    assert ranks({"a": 0.5, "b": 0.7, "c": 0.5}) == {"a": 2.5, "b": 1.0, "c": 2.5}


def test_interval_needs_three_values() -> None:
    mean, half = interval([1.0, 2.0])
    assert mean == 1.5 and math.isnan(half)
    # t(0.975, 2 degrees of freedom) = 4.303
    assert interval([1.0, 2.0, 3.0]) == pytest.approx((2.0, 4.302653 / math.sqrt(3)))

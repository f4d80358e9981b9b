"""The page of detection results, on made-up runs."""

from __future__ import annotations

from pathlib import Path

from benchmarks.detection import BENIGN, STRATEGIES, RunMetrics, report

ATTACKED = (RunMetrics(0.7, (0.2, 0.4), 1.1, 0.0), RunMetrics(0.8, (0.1, 0.3), 1.2, 0.05))
CLEAN = (RunMetrics(0.9, (), 0.5, 0.02),)


def made_up() -> str:
    found = {("attacked", name): ATTACKED for name in STRATEGIES}
    found |= {(partition, name): CLEAN for partition in BENIGN for name in STRATEGIES[:3]}
    return report(found, "medmnist:brain_mri4_28")


def test_page_shows_means_and_extremes_over_seeds() -> None:
    rows = [line for line in made_up().splitlines() if line.startswith("| fedavg")]
    assert rows == [
        "| fedavg | 0.750 | 0.700 0.800 | 0.400 | 1.10 | 2.5 % |",
        "| fedavg | 0.900 | 0.900 | 2.0 % | 0.50 |",
        "| fedavg | 0.900 | 0.900 | 2.0 % | 0.50 |",
    ]


def test_prose_and_columns_of_the_page_are_those_of_its_script() -> None:
    kept = (Path(__file__).resolve().parents[1] / "docs" / "detection-results.md").read_text()
    lines = [line for line in made_up().splitlines() if not line.startswith("| ") or "strategy" in line]
    # The kept page has a handwritten note before its link to the glossary, at the end of the same line.
    assert [line for line in lines if f"{line}\n" not in kept] == []

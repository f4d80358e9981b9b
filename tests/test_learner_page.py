"""The page of the learner's results, on made-up metrics."""

from __future__ import annotations

from pathlib import Path

from benchmarks.learner import BASELINE, DATA, FITS, PAIR, PLAN, cells, settings_of, summary
from benchmarks.learner_page import SHOWN, Key, page


def made_up() -> dict[Key, dict[str, float]]:
    """Return metrics of .5, the pair's .6, with odd seeds .01 more."""
    found = {}
    for key in cells():
        value = 0.5 + 0.1 * (key[2] == PAIR) + 0.01 * (key[3] % 2)
        found[key] = {"raw_ece": 0.3, "chance_ece": 0.05} | {
            f"{prefix}{metric}": value for prefix in ("", *(f"{fit}: " for fit in FITS)) for metric in SHOWN
        }
    return found


def test_page_shows_paired_differences_and_means() -> None:
    text = page(made_up(), PLAN)
    one = "+.100 [.100, .100]"
    assert f"| breast | dirichlet | {one} | {one} | {one} | {one} |" in text
    assert f"| breast | iid | {BASELINE} | 5 | .504 | .504 | .504 | .504 (.300) | .050 | +.000 |" in text
    assert f"| breast | iid | {PAIR} | 5 | .604 |" in text and "| pneumonia | iid | + ETF |" not in text
    assert f"| breast | iid | {PAIR} | .604 / .604 / .604 / .604 |" in text


def test_a_run_that_is_not_done_is_left_out() -> None:
    found = made_up()
    del found["breast", "iid", PAIR, 0]
    assert "| breast | iid | +.100 [.100, .100] |" in page(found, PLAN)
    assert f"| breast | iid | {PAIR} | 4 | .605 |" in page(found, PLAN)
    assert page({}, PLAN).count("| – | – | – | – |") >= 2 * len(DATA)


def test_summary_has_every_data_set_and_partition() -> None:
    found = summary(made_up())
    assert len(found) == 2 * len(DATA)
    chest = found["chest, iid"]
    assert isinstance(chest, dict) and chest["seeds"] == 5 and round(chest["ece"], 3) == 0.604
    assert [round(value, 6) for value in chest["more macro_f1"]] == [0.1] * 3


def test_every_run_has_settings_of_its_own() -> None:
    made = [settings_of(key, "somewhere", "runs").digest() for key in cells()]
    assert len(set(made)) == len(made)


def test_prose_and_columns_of_the_page_are_those_of_its_script() -> None:
    kept = (Path(__file__).resolve().parents[1] / "docs" / "learner-results.md").read_text().splitlines()
    made = page(made_up(), PLAN).splitlines()
    assert [one for one in made if not one.startswith("| ")] == [
        one for one in kept if not one.startswith("| ")
    ]

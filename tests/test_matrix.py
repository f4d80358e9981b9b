"""The page of attacks against defences, on made-up results."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import matrix
from benchmarks.matrix import ATTACKS, DEFENCES, page
from benchmarks.orderings import GAUSSIAN, NONE, ORDERINGS, PairMetrics, unexplained
from fedrobust.results.records import FORMAT
from fedrobust.scenario import Scenario
from fedrobust.suites.cells import Cell

CLEAN = PairMetrics(0.8, None, 0.0, 0)


def made_up() -> dict[tuple[str, str], PairMetrics]:
    """Return metrics in which every known ordering appears."""
    found = {(attack, defence): CLEAN for attack in (NONE, *ATTACKS) for defence in DEFENCES}
    for defence in ("median", "trimmed-mean"):
        found["min-max", defence] = replace(CLEAN, accuracy=0.4)
    for attack in (GAUSSIAN, "sign-flip(scale=4)"):
        found[attack, "fedavg"] = replace(CLEAN, accuracy=0.3, attackers=0.25, underweighted=2)
    found["sign-flip(scale=4)", "feddetect"] = replace(CLEAN, accuracy=0.3)
    found["alie(z=1.5)", "multi-krum"] = replace(CLEAN, accuracy=0.5)
    for defence in DEFENCES:
        found["backdoor", defence] = replace(CLEAN, success=0.2)
        found["backdoor + boost", defence] = replace(CLEAN, success=0.3)
    found["backdoor + boost", "fedavg"] = replace(CLEAN, success=0.9)
    return found


def row(text: str, heading: str, attack: str) -> dict[str, str]:
    lines = text.split(f"## {heading}\n")[1].split("\n## ")[0].splitlines()
    names = next(line for line in lines if line.startswith("| |"))
    values = next(line for line in lines if line.startswith(f"| {attack} |"))
    split = [[cell.strip() for cell in line.strip("|").split("|")][1:] for line in (names, values)]
    return dict(zip(*split, strict=True))


def test_page_shows_every_metric_in_its_cell() -> None:
    text = page(made_up(), {}, "About.", "")
    accuracy = row(text, "Accuracy on clean images", "sign-flip(scale=4)")
    assert len(accuracy) == len(DEFENCES)
    assert (accuracy["fedavg"], accuracy["multi-krum"]) == ("0.300", "0.800")
    assert "nnm &#124; trimmed-mean" in accuracy
    assert row(text, "Attack success rate of backdoors", "backdoor + boost")["fedavg"] == "0.900"
    assert "| label-flip" not in text.split("## Attack success rate of backdoors")[1].split("##")[0]
    weight = row(text, "The attackers' share of the weight", "sign-flip(scale=4)")
    assert (weight["fedavg"], weight["median"], weight["trimmed-mean"]) == ("0.250", "—", "—")
    assert f"| {NONE} |" not in text.split("## The attackers' share")[1].split("##")[0]
    assert row(text, "Honest hospitals below half the uniform weight", GAUSSIAN)["fedavg"] == "2"
    assert text.count("**Appears**") == len(ORDERINGS)
    assert "## Caveats" not in text


@pytest.mark.parametrize(
    ("pair", "change", "key"),
    [
        (("min-max", "median"), {"accuracy": 0.8}, "min-max/median"),
        (("min-max", "trimmed-mean"), {"accuracy": 0.9}, "min-max/trimmed-mean"),
        ((GAUSSIAN, "multi-krum"), {"accuracy": 0.6}, "gaussian/multi-krum"),
        ((GAUSSIAN, "fedavg"), {"accuracy": 0.7}, "gaussian/multi-krum"),
        (("sign-flip(scale=4)", "multi-krum"), {"accuracy": 0.4}, "sign-flip/multi-krum"),
        (("sign-flip(scale=4)", "feddetect"), {"accuracy": 0.7}, "sign-flip/feddetect"),
        (("backdoor + boost", "fedavg"), {"success": 0.25}, "boost/norm-clipping"),
        (("backdoor", "fedavg"), {"success": 0.95}, "boost/fedavg"),
        (("alie(z=1.5)", "multi-krum"), {"accuracy": 0.8}, "alie/multi-krum"),
    ],
)
def test_ordering_that_does_not_appear_needs_an_explanation(
    pair: tuple[str, str], change: dict[str, float], key: str
) -> None:
    found = made_up()
    found[pair] = replace(found[pair], **change)
    assert unexplained(found, "") == [key]
    line = next(part for part in page(found, {}, "", "").splitlines() if part.startswith(f"- `{key}`"))
    assert "**Does not appear**" in line and line.endswith("; unexplained.")
    notes = f"## Notes\n\n`{key}`: two  spaces stay.\n"
    assert unexplained(found, notes) == []
    explained = page(found, {}, "", notes)
    assert explained.endswith(notes)
    assert "unexplained" not in explained


def test_page_names_cells_that_failed_are_missing_or_had_no_effect() -> None:
    found = made_up()
    del found["min-max", "median"]
    found["fang", "dnc"] = replace(CLEAN, no_effect=("fang",), faults=3)
    text = page(found, {("min-max", "median"): "Traceback\nValueError: no"}, "", "")
    assert row(text, "Accuracy on clean images", "min-max")["median"] == "not run"
    assert "- min-max against median failed: ValueError: no" in text
    assert "- fang against dnc: fang had no effect." in text
    assert "- fang against dnc: 3 updates were discarded." in text
    assert "**Not measured.**" in text
    assert unexplained(found, "") == []


def test_metrics_of_a_cell_are_read_from_its_run_folder(tmp_path: Path) -> None:
    plan = dict(matrix.plan(matrix.settings_of_all("phantom", rounds=4), [0], ["backdoor"], ["fedavg"]))
    settings = plan["backdoor", "fedavg", 0].model_copy(update={"out": str(tmp_path)})
    cell = Cell(settings)
    cell.folder.mkdir()
    lines = [
        {"round": number, "clean": {"accuracy": value}, "attack_success_rate": 1 - value}
        for number, value in enumerate((0.0, 0.5, 0.6, 0.7), 1)
    ]
    bad = Scenario.of(settings).malicious
    weights = [0.05 if number in bad else 0.04 if number < 2 else 0.11 for number in range(10)]
    verdicts = [
        {"round": number, "hospitals": list(range(10)), "weights": w, "scores": [None] * 10}
        for number, w in ((3, [0.1] * 10), (4, weights))
    ]
    for name, content in (("rounds", lines), ("verdicts", verdicts)):
        (cell.folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, content)) + "\n")
    (cell.folder / "summary.json").write_text(
        json.dumps({"faults": 1, "clients": 10, "rounds": 4, "seed": 0})
    )
    manifest = {
        "format": FORMAT,
        "settings": {},
        "settings_hash": "",
        "malicious": list(bad),
        "data": {"source": "phantom", "sha256": "", "images": 0, "classes": []},
    }
    (cell.folder / "manifest.json").write_text(json.dumps(manifest))
    metrics = matrix.measure(cell)
    assert metrics.accuracy == pytest.approx(0.6)
    assert metrics.success == pytest.approx(0.4)
    assert metrics.attackers == pytest.approx(0.1)
    assert metrics.underweighted == len({0, 1} - set(bad))
    assert metrics.faults == 1


def test_metrics_over_seeds_are_means() -> None:
    both = matrix.over_seeds([replace(CLEAN, success=0.2), PairMetrics(0.6, 0.4, 0.1, 3, ("fang",), 1)])
    assert both == PairMetrics(pytest.approx(0.7), pytest.approx(0.3), 0.05, 1.5, ("fang",), 1)  # type: ignore[arg-type]


def test_script_runs_two_cells_and_writes_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--data", "phantom(images=400, size=16)", "--out", str(tmp_path / "runs"), "--rounds", "2"]
    arguments += ["--attacks", "none", "min-max", "--defences", "median", "--page", str(tmp_path / "page.md")]
    arguments += ["--notes", str(tmp_path / "notes.md"), "--jobs", "1", "--partition", "iid"]
    monkeypatch.setattr(sys, "argv", ["matrix.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        matrix.main()
    assert ended.value.code == 0
    text = (tmp_path / "page.md").read_text()
    assert "The attackers hold 20.0 % (seed 4) of the training images" in text
    assert 0 <= float(row(text, "Accuracy on clean images", "min-max")["median"]) <= 1
    assert text.count("**Not measured.**") == len(ORDERINGS)


def test_prose_of_the_page_is_that_of_its_script() -> None:
    made = page(made_up(), {}, "", "")
    kept = (Path(__file__).resolve().parents[1] / "docs" / "matrix.md").read_text().splitlines()
    lines = [line for line in made.splitlines() if not line.startswith(("| ", "- "))]
    assert [line for line in lines if line not in kept] == []
    statements = [line.split("**")[0] for line in made.splitlines() if line.startswith("- ")]
    assert len(statements) == len(ORDERINGS)
    assert all(any(line.startswith(statement) for line in kept) for statement in statements)

"""A suite's results against plain definitions: means over seeds, pairs, ranks and caveats."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest

from fedrobust.results.records import FORMAT
from fedrobust.results.suite_records import (
    Caveat,
    Estimate,
    Gap,
    RankingEntry,
    SuiteResults,
    SuiteRow,
)
from fedrobust.scenario import RunIdentity, Scenario
from fedrobust.settings import Settings
from fedrobust.suites.caveats import seeds_text
from fedrobust.suites.cells import Cell
from fedrobust.suites.compare import attack_budget_of, ranking
from fedrobust.suites.metrics import metric_values
from fedrobust.suites.plan import Planned, distinct, plan
from fedrobust.suites.results import cost_table, results
from fedrobust.suites.suite import Suite
from fedrobust.suites.suite_files import load_suite

SUITE = """
seeds = [0, 1, 2]

[base]
data = "phantom(images=240, size=16)"
data-root = "/somewhere"
clients = 4
rounds = 5

[threats]
none = "none"
flip = "label-flip:1"

[defences]
fedavg = "fedavg"
median = "median"
oracle = "oracle"
"""
IMAGES = [40, 40, 80, 40]


def made_up(settings: Settings, accuracy: float, **changes: Any) -> Cell:
    """Write a finished run's folder with given metrics."""
    folder = RunIdentity.of(settings).folder
    folder.mkdir(parents=True)
    bad = Scenario.of(settings).malicious
    honest = [number for number in range(settings.clients) if number not in bad]
    rounds = []
    for number in range(1, settings.rounds + 1):
        # Only the last three count.
        value = accuracy + 0.01 * (number - 4) if number > 2 else 0.0
        clean = {
            **dict.fromkeys(("accuracy", "macro_f1", "macro_precision", "macro_recall"), value),
            "auroc": None,
            "sensitivity": [value, None],
            "worst_class": value,
        }
        noisy = {**clean, "accuracy": value / 2}
        rounds.append(
            {
                "round": number,
                "clean": clean,
                "noisy": noisy,
                "attack_success_rate": None,
                "hospital_accuracy": [value, value, value, value - 0.1 * bool(bad)],
                "worst_hospital": value - 0.1 * bool(bad),
                "faults": [
                    {"hospital": honest[place], "reason": "no update"}
                    for place in (changes.get("faults", ()) if number == 1 else ())
                ],
            }
        )
    write(folder / "rounds.jsonl", rounds)
    write(
        folder / "timings.jsonl",
        [{"round": n, "aggregation": 0.1 * n, "defence_mib": 2.0 * n} for n in range(settings.rounds + 1)],
    )
    detection = {
        "precision": None,
        "recall": 0.0 if bad else None,
        "auroc": 0.75 if bad else None,
        "false_flag_rate": 0.125,
        "weights": changes.pop("weights", {"0": 0.25, "1": 0.25, "2": 0.25, "3": 0.25}),
        "flagged": [],
    }
    summary = {
        "detection": detection,
        "no_effect_attacks": [],
        "faults": len(changes.get("faults", ())),
        "synthetic": True,
        "seconds": 2.0,
        "clients": settings.clients,
        "rounds": settings.rounds,
        "seed": settings.seed,
        **{k: v for k, v in changes.items() if k in ("no_effect_attacks", "no_effect_steps")},
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    manifest = {
        "format": FORMAT,
        "settings": settings.model_dump(mode="json"),
        "settings_hash": settings.digest(),
        "malicious": list(bad),
        "oracle": settings.strategy.startswith("oracle"),
        "versions": {"python": "3.11", "torch": changes.get("torch", "2")},
        "data": {
            "source": settings.data,
            "images": sum(IMAGES),
            "sha256": changes.get("sha256", "abc"),
            "classes": ["one", "two"],
            "hospitals": {str(n): [images, 0] for n, images in enumerate(IMAGES)},
        },
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return Cell(settings)


def write(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def a_suite(folder: Path, text: str = SUITE) -> tuple[Suite, list[Planned]]:
    file = folder / "mine.toml"
    file.write_text(text)
    suite = load_suite(str(file))
    return suite, plan(suite, {"out": str(folder / "cells")})


#: Accuracy by threat and defence, for each seed.
ACCURACY = {
    ("none", "fedavg"): [0.80, 0.82, 0.84],
    ("none", "median"): [0.78, 0.80, 0.82],
    ("none", "oracle"): [0.80, 0.82, 0.84],
    ("flip", "fedavg"): [0.50, 0.54, 0.52],
    ("flip", "median"): [0.70, 0.71, 0.75],
    ("flip", "oracle"): [0.79, 0.80, 0.82],
}


def found(folder: Path, **changes: Any) -> SuiteResults:
    suite, cells = a_suite(folder)
    runs: dict[str, Cell | None] = {
        cell.settings.digest(): made_up(cell.settings, ACCURACY[cell.key][cell.seed]) for cell in cells
    }
    return results(suite, cells, runs, {}, "the command", folder / "mine")


def row(content: SuiteResults, *labels: str) -> SuiteRow:
    (one,) = [row for row in content.rows if tuple(row.labels.values()) == labels]
    return one


def texts(row: SuiteRow) -> list[str]:
    return [caveat.text for caveat in row.caveats]


def test_rows_hold_means_and_the_loss_to_the_baseline(tmp_path: Path) -> None:
    content = found(tmp_path)
    assert [axis.name for axis in content.axes] == ["threat", "defence"]
    assert content.method_axis == "defence" and content.reference == "fedavg"
    for labels, values in ACCURACY.items():
        made = row(content, *labels).metrics["accuracy"]
        assert made.values == pytest.approx(values) and made.mean == pytest.approx(fmean(values))
        assert made.low is not None and made.mean is not None and made.high is not None
        assert min(values) - 1e-9 <= made.low < made.mean < made.high <= max(values) + 1e-9
    attacked = row(content, "flip", "median").metrics
    assert attacked["lost_to_attack"].values == pytest.approx([8.0, 9.0, 7.0])
    # From the means of clean and noisy: accuracy halves, the other two stay.
    assert attacked["drop"].mean == pytest.approx(50 / 3) and attacked["drop_accuracy"].mean == pytest.approx(
        50
    )
    assert attacked["worst_hospital"].values == pytest.approx([0.6, 0.61, 0.65])
    assert attacked["detection_auroc"].mean == 0.75 and attacked["benign_false_flags"].mean == 0.125
    assert attacked["sensitivity:one"].mean == attacked["accuracy"].mean
    clean = row(content, "none", "median").metrics
    assert clean["lost_to_attack"].mean is None and clean["false_flags"].mean is None
    assert clean["benign_false_flags"].mean == 0.125
    # What no run has is no column.
    known = [metric.key for metric in content.metrics]
    assert "auroc" not in known and "attack_success_rate" not in known and "sensitivity:two" not in known


def test_comparisons_are_paired_and_corrected(tmp_path: Path) -> None:
    content = found(tmp_path)
    lines = {tuple(line.labels.values()): line for line in content.comparisons if line.metric == "accuracy"}
    assert set(lines) == {
        (threat, defence) for threat in ("none", "flip") for defence in ("median", "oracle")
    }
    line = lines["flip", "median"]
    assert line.difference == pytest.approx(fmean([0.20, 0.17, 0.23])) and line.seeds == 3
    # Three differences of one sign: 2 of the 8 flips are as far out. Two tests, and an oracle is not tested.
    assert line.p == 0.25 and line.p_holm == 0.5
    assert lines["none", "median"].p == 0.25 and lines["none", "median"].p_holm == 0.5
    assert lines["flip", "oracle"].p is None and lines["flip", "oracle"].p_holm is None


def test_ranks_leave_the_oracle_out(tmp_path: Path) -> None:
    lines = {line.label: line for line in found(tmp_path).ranking}
    assert lines["median"].rank_by_worst == 1 and lines["median"].worst_under == "flip"
    assert lines["median"].worst == pytest.approx(0.72) and lines["median"].mean == pytest.approx(0.76)
    assert lines["fedavg"].rank_by_mean == 2 and lines["fedavg"].mean_rank == 1.5
    assert lines["oracle"].rank_by_mean is None and lines["oracle"].caveats


def test_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (found(made) for made in (tmp_path / "a", tmp_path / "b") if not made.mkdir())
    assert first.model_dump_json() == second.model_dump_json()
    assert str(tmp_path) not in first.model_dump_json() and "/somewhere" not in first.model_dump_json()
    assert str(row(first, "flip", "median").cells[0].run).startswith("../cells/phantom")


def test_honest_hospitals_that_lost_weight_are_counted(tmp_path: Path) -> None:
    _, cells = a_suite(tmp_path)
    (attacked,) = [cell for cell in cells if cell.key == ("flip", "median") and cell.seed == 0]
    assert attacked.baseline is not None
    baseline = made_up(attacked.baseline, 0.8)
    # Hospital 3 has a seventh of what is fair; hospital 0 a little more than half of its share of the images.
    weights = {"0": 0.11, "1": 0.35, "2": 0.5, "3": 0.04}
    cell = made_up(attacked.settings, 0.6, weights=weights)
    made = metric_values(cell.run, baseline.run)
    bad = set(cell.run.malicious)
    lost = [number for number in (3,) if number not in bad]
    assert made["honest_lost"] == len(lost)
    # It had .8 in the baseline; beside attackers the run gives hospital 3 a tenth less than .6.
    assert made["honest_lost_accuracy"] == (pytest.approx(30.0) if lost else None)
    assert made["attacker_weight"] == pytest.approx(sum(weights[str(number)] for number in bad))


def test_small_weight_of_a_hospital_with_few_images_is_no_loss(tmp_path: Path) -> None:
    """An atypical hospital may train on a part of its images; an attacker's report changes nothing."""
    _, cells = a_suite(tmp_path)
    (attacked,) = [cell for cell in cells if cell.key == ("flip", "median") and cell.seed == 0]
    cell = made_up(attacked.settings, 0.6, weights=dict.fromkeys("0123", 0.05))
    (bad,) = cell.run.malicious

    def lost(images: int) -> float | None:
        """Return how many honest hospitals lost their weight if each reports so many images."""
        told = [images if n != bad else 10**6 for n in range(4)]
        write(
            cell.folder / "client_metrics.jsonl",
            [
                {"round": 1, "hospitals": [0, 1, 2, 3], "num_examples": IMAGES},
                {"round": 2, "hospitals": [0, 1, 2, 3], "num_examples": told},
            ],
        )
        return metric_values(Cell(cell.settings).run, None)["honest_lost"]

    assert metric_values(Cell(cell.settings).run, None)["honest_lost"] == 3.0
    # One of 4 images has a share of 4 / (12 + what was dealt to the attacker): less than twice .05.
    assert lost(4) == 0.0
    assert lost(40) == 3.0


def test_missing_clean_baseline_is_named(tmp_path: Path) -> None:
    suite, cells = a_suite(tmp_path, SUITE.replace('none = "none"\n', ""))
    runs: dict[str, Cell | None] = {c.settings.digest(): made_up(c.settings, 0.5) for c in cells}
    baseline = next(cell.baseline for cell in cells if cell.key == ("flip", "median") and cell.seed == 1)
    assert baseline is not None
    runs |= {
        c.baseline.digest(): made_up(c.baseline, 0.7) for c in cells if c.baseline not in (None, baseline)
    }  # type: ignore[union-attr]
    content = results(suite, cells, runs, {baseline.digest(): "Traceback\nOSError: full\n"}, "", tmp_path)
    assert content.missing == ()
    assert content.missing_baselines == (
        Gap(labels={"threat": "flip", "defence": "median"}, seed=1, error="OSError: full"),
    )
    assert texts(row(content, "flip", "median")) == ["no clean baseline (seed 1)"]
    assert texts(row(content, "flip", "fedavg")) == []
    assert any("1 cell without a clean baseline" in note for note in content.notes)


def test_ranking_by_detection_leaves_out_unattacked_conditions(tmp_path: Path) -> None:
    suite, cells = a_suite(tmp_path, 'metric = "detection_auroc"\n' + SUITE)
    runs: dict[str, Cell | None] = {c.settings.digest(): made_up(c.settings, 0.5) for c in cells}
    lines = {line.label: line for line in results(suite, cells, runs, {}, "", tmp_path).ranking}
    assert lines["fedavg"].rank_by_mean == lines["median"].rank_by_mean == 1.5
    assert lines["fedavg"].mean == 0.75 and lines["fedavg"].worst_under == "flip"
    # A condition that was not run is another matter.
    for cell in cells:
        if cell.key[0] == "none":
            runs[cell.settings.digest()] = None
    lines = {line.label: line for line in results(suite, cells, runs, {}, "", tmp_path).ranking}
    assert lines["fedavg"].rank_by_mean is None
    assert lines["fedavg"].caveats == ("some conditions are missing",)


def test_rows_that_differ_in_data_versions_or_updates_have_caveats(tmp_path: Path) -> None:
    suite, cells = a_suite(tmp_path)
    runs: dict[str, Cell | None] = {}
    for cell in cells:
        changes: dict[str, Any] = {}
        if cell.key == ("none", "median"):
            changes = {"no_effect_steps": ["median"]}
        if cell.key == ("flip", "median"):
            changes = [
                {"sha256": "other"},
                {"torch": "1", "no_effect_attacks": ["label-flip"]},
                {"no_effect_attacks": ["label-flip"], "no_effect_steps": ["median"], "faults": [0, 0]},
            ][cell.seed]
        runs[cell.settings.digest()] = made_up(cell.settings, 0.5, **changes)
    gone = next(cell for cell in cells if cell.key == ("flip", "fedavg"))
    runs[gone.settings.digest()] = None
    content = results(
        suite, cells, runs, {gone.settings.digest(): "Traceback\nValueError: no\n"}, "", tmp_path
    )
    caveats = row(content, "flip", "median").caveats
    assert [(caveat.text, caveat.excludes) for caveat in caveats] == [
        ("other data than most: the hash differs", True),
        ("made with torch 1", False),
        ("label-flip had no effect (seeds 1 and 2)", False),
        ("median had no effect (seed 2)", False),
        ("2 updates of honest hospitals discarded (seed 2)", True),
    ]
    assert texts(row(content, "flip", "fedavg")) == ["2 of 3 seeds"]
    assert texts(row(content, "none", "median")) == []
    # Two seeds are left: a mean and no interval.
    left = row(content, "flip", "fedavg").metrics["accuracy"]
    assert left.mean == pytest.approx(0.5) and left.low is None
    assert content.missing == (Gap(labels=dict(gone.labels), seed=gone.seed, error="ValueError: no"),)
    notes = " ".join(content.notes)
    for word in ("Synthetic", "1 cell missing, 1 of them failed", "other data", "oracle"):
        assert word in notes
    (median,) = [
        line
        for line in content.comparisons
        if line.labels == {"threat": "flip", "defence": "median"} and line.metric == "accuracy"
    ]
    assert median.seeds == 2 and median.p is None and median.low is None


def test_two_seeds_give_no_interval_and_no_test(tmp_path: Path) -> None:
    suite, cells = a_suite(tmp_path, SUITE.replace("[0, 1, 2]", "[0, 1]"))
    runs: dict[str, Cell | None] = {c.settings.digest(): made_up(c.settings, 0.5) for c in cells}
    content = results(suite, cells, runs, {}, "", tmp_path)
    assert "2 seeds: no intervals" in content.notes[0]
    assert all(line.p is None for line in content.comparisons)


def test_smallest_budget_that_costs_the_drop_is_found(tmp_path: Path) -> None:
    text = """
    seeds = [0]
    budget-axis = "hospitals"
    drop = 5.0
    [base]
    data = "phantom(images=240, size=16)"
    clients = 4
    rounds = 5
    [axes]
    hospitals = [1, 2, 3]
    [threats]
    flip = "label-flip:{hospitals}"
    [defences]
    fedavg = "fedavg"
    median = "median"
    """
    suite, cells = a_suite(tmp_path, text)
    value = {"fedavg": [0.78, 0.70, 0.60], "median": [0.79, 0.78, 0.77]}
    runs: dict[str, Cell | None] = {
        digest: made_up(settings, 0.8) for digest, settings in distinct(cells).items() if not settings.threat
    }
    for cell in cells:
        accuracy = value[cell.labels["defence"]][int(cell.labels["hospitals"]) - 1]
        runs[cell.settings.digest()] = made_up(cell.settings, accuracy)
    budget = results(suite, cells, runs, {}, "", tmp_path).attack_budget
    assert budget is not None
    assert {line.labels["defence"]: line.budget for line in budget.smallest} == {
        "fedavg": 2.0,
        "median": None,
    }
    assert all(line.unknown == () for line in budget.smallest)
    table = cost_table(cells, runs).rows
    assert table[0].labels == {"threat": "flip", "hospitals": "1", "defence": "fedavg"}
    assert (table[0].seconds, table[0].defence_mib) == (2.0, 10.0)
    assert table[0].aggregation_s == pytest.approx(0.3)


def test_budget_with_missing_smaller_ones_names_them() -> None:
    losses_of: dict[str, list[float | None]] = {
        # Equal to the drop but for rounding.
        "reached": [100 * (0.8 - 0.7 - 0.1) + 4.999999999999997, 9.0, 9.0],
        "gap below": [None, 9.0, 9.0],
        "gap above": [1.0, 9.0, None],
        "gap, not reached": [1.0, None, 2.0],
        "not reached": [1.0, 2.0, 3.0],
    }
    rows = [
        a_row({"budget": budget, "defence": name}, lost_to_attack=loss)
        for name, losses in losses_of.items()
        for budget, loss in zip(("0.1", "0.2", "0.3"), losses, strict=True)
    ]
    suite = SimpleNamespace(budget_axis="budget", drop=5.0, compared_axis="defence")
    found = attack_budget_of(suite, rows)  # type: ignore[arg-type]
    assert found is not None
    assert {line.labels["defence"]: (line.budget, line.unknown) for line in found.smallest} == {
        "reached": (0.1, ()),
        "gap below": (0.2, (0.1,)),
        "gap above": (0.2, ()),
        "gap, not reached": (None, (0.2,)),
        "not reached": (None, ()),
    }


def a_row(labels: dict[str, str], *caveats: Caveat, **means: float | None) -> SuiteRow:
    metrics = {key: Estimate(mean=mean) for key, mean in means.items()}
    return SuiteRow(labels=labels, seeds=(0,), metrics=metrics, caveats=caveats, cells=())


def ranked(*rows: SuiteRow) -> dict[str, RankingEntry]:
    suite = SimpleNamespace(metric="accuracy", compared_axis="defence")
    return {entry.label: entry for entry in ranking(suite, rows)}  # type: ignore[arg-type]


def test_ranking_of_means_within_the_tolerance_is_a_tie() -> None:
    lines = ranked(
        a_row({"threat": "flip", "defence": "krum"}, accuracy=0.3),
        a_row({"threat": "flip", "defence": "median"}, accuracy=0.1 + 0.2),
        a_row({"threat": "flip", "defence": "fedavg"}, accuracy=0.2),
    )
    assert 0.3 != 0.1 + 0.2
    assert {name: entry.rank_by_worst for name, entry in lines.items()} == {
        "krum": 1.5,
        "median": 1.5,
        "fedavg": 3,
    }
    assert lines["krum"].rank_by_mean == lines["krum"].mean_rank == 1.5


def test_ranking_leaves_out_a_method_with_an_excluding_caveat_and_says_why() -> None:
    lost = Caveat(text="3 updates of honest hospitals discarded (seed 0)", excludes=True)
    lines = ranked(
        a_row({"threat": "flip", "defence": "krum"}, lost, accuracy=0.9),
        a_row({"threat": "flip", "defence": "median"}, Caveat(text="2 of 3 seeds"), accuracy=0.7),
    )
    assert lines["krum"].rank_by_worst is None and lines["krum"].caveats == (lost.text,)
    assert lines["krum"].worst == 0.9
    assert lines["median"].rank_by_worst == 1 and lines["median"].ranked


@pytest.mark.parametrize(
    ("seeds", "text"),
    [
        ([3], "seed 3"),
        ([2, 0, 1], "seeds 0 to 2"),
        ([0, 2], "seeds 0 and 2"),
        ([0, 2, 5], "seeds 0, 2 and 5"),
    ],
)
def test_seeds_in_a_caveat_are_one_text(seeds: list[int], text: str) -> None:
    assert seeds_text(seeds) == text


def test_caveat_of_several_seeds_is_one(tmp_path: Path) -> None:
    suite, cells = a_suite(tmp_path)
    runs: dict[str, Cell | None] = {
        cell.settings.digest(): made_up(cell.settings, 0.5, no_effect_attacks=["label-flip"])
        for cell in cells
    }
    content = results(suite, cells, runs, {}, "", tmp_path)
    assert texts(row(content, "flip", "median")) == ["label-flip had no effect (seeds 0 to 2)"]


def test_settings_of_every_cell_leave_out_what_an_axis_decides(tmp_path: Path) -> None:
    content = found(tmp_path)
    assert content.settings["clients"] == 4
    assert not {"attack", "malicious", "threat", "data_root", "seed", "strategy"} & set(content.settings)
    assert content.definition.startswith("\nseeds = [0, 1, 2]") and "data-root" not in content.definition

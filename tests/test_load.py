"""Finished runs as pandas tables, and two of them side by side."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from run_folders import make_run

from fedrobust import UserError
from fedrobust.results.compare import compare_runs
from fedrobust.results.load import load


def test_load_gives_a_row_for_each_round_and_a_column_for_each_hospital(tmp_path: Path) -> None:
    run = load(str(make_run(tmp_path, clients=4, attacks={1: "sign-flip"}, rounds=3)))
    assert run.summary["clean"]["accuracy"] == run.rounds.loc[3, "clean.accuracy"]
    assert run.rounds.index.tolist() == run.weights.index.tolist() == [1, 2, 3]
    assert run.weights.columns.tolist() == [0, 1, 2, 3]
    assert np.allclose(run.weights.sum(axis=1), 1)
    assert run.flagged.loc[3].tolist() == [False, True, False, False]
    assert run.scores.loc[3, 1] == 4.0
    assert run.client_metrics.shape == (12, 3)
    assert run.client_metrics.loc[(2, 1), "loss"] > 0
    assert run.hospitals.loc[1, "role"] == "malicious"
    assert run.settings["clients"] == 4


def test_load_has_nan_for_a_hospital_that_failed_in_a_round(tmp_path: Path) -> None:
    make_run(tmp_path, clients=3, attacks={}, rounds=2, flagged=[])
    lines = [json.loads(line) for line in (tmp_path / "verdicts.jsonl").read_text().splitlines()]
    lines[1].update(hospitals=[0, 2], weights=[0.25, 0.75], scores=[None, 0.5])
    (tmp_path / "verdicts.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    run = load(tmp_path)
    assert run.weights.loc[2].isna().tolist() == [False, True, False]
    assert run.scores.loc[2].isna().tolist() == [True, True, False]


def test_load_of_another_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not the folder of a finished run"):
        load(tmp_path)


def test_comparison_has_the_settings_that_differ_and_the_differences(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a", attacks={1: "sign-flip"}, strategy="krum")
    clean = {"accuracy": 0.5, "macro_f1": 0.4}
    second = make_run(
        tmp_path / "b", attacks={1: "sign-flip"}, strategy="fedavg", verdicts=False, clean=clean
    )
    found = compare_runs(first, second)
    assert [(pair.key, pair.first, pair.second) for pair in found.settings] == [
        ("strategy", "krum", "fedavg")
    ]
    pairs = {pair.metric.key: pair for pair in found.metrics}
    assert pairs["accuracy"].difference == pytest.approx(0.5 - 0.75)
    assert pairs["attacker_weight"].second is None and pairs["attacker_weight"].difference is None
    assert "lost_to_attack" not in pairs
    assert any("One seed each" in note for note in found.notes)


def test_comparison_says_what_makes_runs_hard_to_compare(tmp_path: Path) -> None:
    first, second = (make_run(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 1)))
    manifest = json.loads((second / "manifest.json").read_text())
    manifest["data"]["sha256"] = "00" * 32
    manifest["versions"]["torch"] = "2.14.0"
    (second / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    notes = " ".join(compare_runs(first, second).notes)
    for words in ("different data", "seeds differ", "versions differ: torch"):
        assert words in notes


def test_comparison_leaves_out_where_a_run_was_carried_out(tmp_path: Path) -> None:
    first, second = (make_run(tmp_path / name) for name in "ab")
    manifest = json.loads((second / "manifest.json").read_text())
    manifest["settings"]["workers"] = 2
    (second / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert [pair.key for pair in compare_runs(first, second).settings] == ["workers"]
    assert compare_runs(first, second, frozenset({"workers"})).settings == ()

"""Atypical hospitals: their behaviours are benign, and they count as honest everywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from federations import threats_of, tiny

from fedrobust.commands.run_summary import print_run
from fedrobust.data.sources import prepare
from fedrobust.federation import Attack, Update
from fedrobust.results.finished_run import read_run
from fedrobust.runtime.observers import RunStart
from fedrobust.runtime.progress import Progress
from fedrobust.runtime.runner import run
from fedrobust.scenario import Scenario
from fedrobust.settings import Settings

MIXED = ("other-scanner:1", "label-flip:2")


class Watcher(Attack):
    """Keeps the numbers of the hospitals that it is given as honest."""

    knowledge = "all"
    seen: ClassVar[list[list[int]]] = []

    def collude(self, colluders: Sequence[Update], honest: Sequence[Update]) -> Sequence[Update]:
        self.seen.append([update.node for update in honest])
        return colluders


def test_scenario_chain_of_benign_behaviours_only_is_atypical() -> None:
    settings = Settings(threat=MIXED)
    (_, atypical), (_, flippers) = threats_of(settings)
    assert (Scenario.of(settings).atypical, Scenario.of(settings).malicious) == (atypical, flippers)
    assert settings.malicious == 3
    both = Settings(threat=("other-scanner + single-class:2", "other-scanner + label-flip:1"))
    (_, atypical), (_, flippers) = threats_of(both)
    assert (Scenario.of(both).atypical, Scenario.of(both).malicious) == (atypical, flippers)
    short = Settings(malicious=2, attack="single-class")
    assert Scenario.of(short).malicious == () and Scenario.of(short).atypical == threats_of(short)[0][1]
    assert Scenario.of(Settings()).atypical == ()


def test_run_counts_atypical_hospitals_as_honest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tiny(tmp_path, clients=6, threat=MIXED, strategy="multi-krum(f=1, m=1)")
    result = run(settings)
    (_, atypical), (_, flippers) = threats_of(settings)
    manifest = json.loads((result.folder / "manifest.json").read_text())
    assert (
        tuple(manifest["malicious"]) == result.malicious == flippers
        and tuple(manifest["atypical"]) == atypical
    )
    summary = result.summary
    assert (
        summary["malicious"] == 2
        and summary["atypical"] == list(atypical)
        and summary["no_effect_attacks"] == []
    )
    # A flag on any hospital that flips no labels is false, on an atypical one too.
    flagged = set(summary["detection"]["flagged"])
    assert summary["detection"]["precision"] == pytest.approx(len(flagged & set(flippers)) / len(flagged))
    lines = [json.loads(x) for x in (result.folder / "verdicts.jsonl").read_text().splitlines()]
    falsely_flagged = [set(line["flagged"]) - set(flippers) for line in lines]
    assert summary["detection"]["false_flag_rate"] == pytest.approx(
        sum(map(len, falsely_flagged)) / (4 * len(lines))
    )
    Progress().started(RunStart(Scenario.of(settings), result.malicious, "here", tmp_path))
    print_run(read_run(result.folder))
    out, err = capsys.readouterr()
    assert "2 of them malicious (label-flip:2), 1 atypical (other-scanner:1)" in " ".join(err.split())
    flagged_atypical = ", ".join(str(n) for n in atypical if n in flagged) or "none"
    assert f"Atypical (benign) hospitals: {atypical[0]}. Falsely flagged: {flagged_atypical}." in out
    assert f"Malicious hospitals: {flippers[0]}, {flippers[1]}." in out


def test_run_atypical_hospital_trains_on_records_of_its_own(tmp_path: Path) -> None:
    plain = run(tiny(tmp_path / "plain", strategy="fedavg", rounds=1))
    atypical = run(tiny(tmp_path / "atypical", strategy="fedavg", rounds=1, threat=("single-class:1",)))
    assert atypical.malicious == () and atypical.summary["malicious"] == 0 and atypical.summary["faults"] == 0
    assert (plain.folder / "model.safetensors").read_bytes() != (
        atypical.folder / "model.safetensors"
    ).read_bytes()


def test_collude_sees_atypical_hospitals_as_honest(tmp_path: Path) -> None:
    Watcher.seen.clear()
    settings = tiny(tmp_path, clients=5, rounds=1, threat=("other-scanner:1", "test_atypical:Watcher:1"))
    run(settings)
    (watcher,) = Scenario.of(settings).malicious
    assert Watcher.seen == [[number for number in range(5) if number != watcher]]


def test_single_class_that_the_hospital_lacks_discards_its_update_with_a_reason(tmp_path: Path) -> None:
    settings = tiny(tmp_path, partition="dirichlet(alpha=0.05)", threat=("single-class:1",), rounds=1)
    (number,) = Scenario.of(settings).atypical
    absent = int(np.flatnonzero(prepare(Scenario.of(settings).data).of_hospital(number).counts() == 0)[0])
    result = run(settings.model_copy(update={"threat": (f"single-class(only={absent}):1",)}))
    (fault,) = result.history["faults"].iloc[0]
    assert fault["hospital"] == number and f"has no image of class {absent}" in fault["reason"]

"""Honest but odd hospitals: they have a threat of their own and count as honest everywhere."""

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
    """Keeps the numbers of those whom it takes for honest."""

    knowledge = "all"
    seen: ClassVar[list[list[int]]] = []

    def collude(self, colluders: Sequence[Update], honest: Sequence[Update]) -> Sequence[Update]:
        self.seen.append([update.node for update in honest])
        return colluders


def test_only_a_chain_that_is_odd_as_a_whole_is_honest() -> None:
    settings = Settings(threat=MIXED)
    (_, odd), (_, flippers) = threats_of(settings)
    assert (Scenario.of(settings).atypical, Scenario.of(settings).malicious) == (odd, flippers)
    assert settings.malicious == 3
    both = Settings(threat=("other-scanner + single-class:2", "other-scanner + label-flip:1"))
    (_, odd), (_, flippers) = threats_of(both)
    assert (Scenario.of(both).atypical, Scenario.of(both).malicious) == (odd, flippers)
    short = Settings(malicious=2, attack="single-class")
    assert Scenario.of(short).malicious == () and Scenario.of(short).atypical == threats_of(short)[0][1]
    assert Scenario.of(Settings()).atypical == ()


def test_a_run_counts_the_odd_as_honest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tiny(tmp_path, clients=6, threat=MIXED, strategy="multi-krum(f=1, m=1)")
    result = run(settings)
    (_, odd), (_, flippers) = threats_of(settings)
    said = json.loads((result.folder / "manifest.json").read_text())
    assert tuple(said["malicious"]) == result.malicious == flippers and tuple(said["atypical"]) == odd
    summary = result.summary
    assert (
        summary["malicious"] == 2 and summary["atypical"] == list(odd) and summary["no_effect_attacks"] == []
    )
    # Whoever is flagged and no flipper is a false flag, an odd hospital too.
    flagged = set(summary["detection"]["flagged"])
    assert summary["detection"]["precision"] == pytest.approx(len(flagged & set(flippers)) / len(flagged))
    lines = [json.loads(x) for x in (result.folder / "verdicts.jsonl").read_text().splitlines()]
    wronged = [set(line["flagged"]) - set(flippers) for line in lines]
    assert summary["detection"]["false_flag_rate"] == pytest.approx(sum(map(len, wronged)) / (4 * len(lines)))
    Progress().started(RunStart(Scenario.of(settings), result.malicious, "here", tmp_path))
    print_run(read_run(result.folder))
    out, err = capsys.readouterr()
    assert "2 of them malicious (label-flip:2), 1 atypical (other-scanner:1)" in " ".join(err.split())
    accused = ", ".join(str(n) for n in odd if n in flagged) or "none"
    assert f"Atypical (benign) hospitals: {odd[0]}. Falsely flagged: {accused}." in out
    assert f"Malicious hospitals: {flippers[0]}, {flippers[1]}." in out


def test_an_odd_hospital_trains_on_its_own_and_nobody_else_changes(tmp_path: Path) -> None:
    plain = run(tiny(tmp_path / "plain", strategy="fedavg", rounds=1))
    odd = run(tiny(tmp_path / "odd", strategy="fedavg", rounds=1, threat=("single-class:1",)))
    assert odd.malicious == () and odd.summary["malicious"] == 0 and odd.summary["faults"] == 0
    assert (plain.folder / "model.safetensors").read_bytes() != (
        odd.folder / "model.safetensors"
    ).read_bytes()


def test_colluders_take_the_odd_for_honest(tmp_path: Path) -> None:
    Watcher.seen.clear()
    settings = tiny(tmp_path, clients=5, rounds=1, threat=("other-scanner:1", "test_odd:Watcher:1"))
    run(settings)
    (watcher,) = Scenario.of(settings).malicious
    assert Watcher.seen == [[number for number in range(5) if number != watcher]]


def test_a_class_that_a_hospital_has_not_costs_it_its_rounds_and_says_so(tmp_path: Path) -> None:
    settings = tiny(tmp_path, partition="dirichlet(alpha=0.05)", threat=("single-class:1",), rounds=1)
    (number,) = Scenario.of(settings).atypical
    absent = int(np.flatnonzero(prepare(Scenario.of(settings).data).of_hospital(number).counts() == 0)[0])
    result = run(settings.model_copy(update={"threat": (f"single-class(only={absent}):1",)}))
    (fault,) = result.history["faults"].iloc[0]
    assert fault["hospital"] == number and f"has no image of class {absent}" in fault["reason"]

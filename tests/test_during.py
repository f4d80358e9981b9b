from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from federations import tiny
from helpers import make_records
from test_hospital import BUFFERS, START, FakeLearner, Spy

from clients.during import During
from clients.hospital import Hospital
from fedrobust import UserError, run
from fedrobust.plugins.specs import PluginSpec
from fedrobust.results.records import RoundLine
from fedrobust.runtime.summary import _threats
from fedrobust.scenario import Scenario


def active(*options: object) -> list[int]:
    one = During(*options)  # type: ignore[arg-type]
    return [round for round in range(1, 13) if one.is_active(round)]


def test_during_is_active_in_its_window() -> None:
    assert active("5-8") == [5, 6, 7, 8]
    assert active("3-12", 4) == [3, 7, 11]
    assert active(7) == active("7") == active("7-7") == [7]
    assert PluginSpec.parse("during(rounds=5-20, every=2)").options == {"rounds": "5-20", "every": 2}
    for wrong in ("5-", "-3", "0-4", "a few", 0, "8-5"):
        with pytest.raises(UserError, match=r"during: rounds is"):
            During(wrong)  # type: ignore[arg-type]


def test_during_holds_back_its_chain_outside() -> None:
    chain = [Spy("spy", [], factor=-1.0), During("2-3")]
    hospital = Hospital(0, make_records(12), FakeLearner(), chain)
    signs = [np.sign(hospital.fit(START, BUFFERS, round, 0.01).delta[0]) for round in range(1, 5)]
    assert signs == [1, -1, -1, 1]


def test_a_run_has_success_rates_by_threat_and_says_what_is_left(tmp_path: Path) -> None:
    threat = ("backdoor(target=0) + during(rounds=1-2):1", "backdoor(target=1, shift=1):1", "sign-flip:1")
    result = run(tiny(tmp_path, rounds=3, threat=threat, strategy="fedavg"), report=False)
    lines = [json.loads(line) for line in (result.folder / "rounds.jsonl").read_text().splitlines()]
    for line in lines:
        first, second, third = line["attack_success_rates"]
        assert third is None and line["attack_success_rate"] == max(first, second)
    ended, going, other = result.summary["threats"]
    assert (ended["last_round"], going["last_round"], other["last_round"]) == (2, 3, 3)
    then, now = (lines[round - 1]["attack_success_rates"][0] for round in (2, 3))
    assert ended["success_at_its_end"] == then and ended["attack_success_rate"] == now
    assert ended["durability"] == (pytest.approx(now / then) if then > 1 / 6 else None)
    assert going["durability"] is None and other["attack_success_rate"] is None


def test_durability_is_what_is_left_of_a_rate_above_chance(tmp_path: Path) -> None:
    scenario = Scenario.of(tiny(tmp_path, threat=("backdoor + during(rounds=2):1",)))
    for then, left in ((0.8, 0.25), (0.1, None)):
        lines = [
            RoundLine(round=n, attack_success_rates=(rate,)) for n, rate in ((1, 0.0), (2, then), (3, 0.2))
        ]
        (found,) = _threats(scenario, lines, chance=0.25)
        assert (found.last_round, found.success_at_its_end) == (2, then)
        assert found.durability == (None if left is None else pytest.approx(left))
    lines = [RoundLine(round=n, attack_success_rates=(0.9,)) for n in (1, 2)]
    assert _threats(scenario, lines, chance=0.25)[0].durability is None

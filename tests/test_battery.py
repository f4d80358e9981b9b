from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fedrobust.battery import Outcome, check_behaviour, check_strategy
from fedrobust.commands.check import check_plugin
from fedrobust.commands.program import main
from fedrobust.data.records import Records
from fedrobust.federation import Attack, Behaviour, Defence, PreAggregation, Update, Updates, Vector, Verdict
from fedrobust.pipeline.pipeline import Pipeline
from fedrobust.plugins import available, instantiate

STRATEGIES = sorted(available("strategies", (Defence, PreAggregation)))
BEHAVIOURS = sorted(available("clients", (Behaviour,)))


@pytest.mark.parametrize("name", [*STRATEGIES, *BEHAVIOURS])
def test_every_built_in_plugin_passes_the_battery(name: str) -> None:
    assert [one for one in check_plugin(name) if one.holds is False] == []


def broken(outcomes: Sequence[Outcome]) -> set[str]:
    """Return the checks that do not hold."""
    return {one.check for one in outcomes if one.holds is False}


class _First(Defence):
    def weigh(self, updates: Updates) -> Verdict:
        return Verdict(np.arange(len(updates)) == 0)


class _Writes(Defence):
    def weigh(self, updates: Updates) -> Verdict:
        updates[0].parameters[:] = 0
        return Verdict(np.ones(len(updates)))


class _Ratio(Defence):
    def weigh(self, updates: Updates) -> Verdict:
        return Verdict(updates.norms() / updates.norms().min())


class _TrustsReports(Defence):
    def combine(self, updates: Updates) -> tuple[Vector, Verdict]:
        loss = np.float32(updates.reported("loss").sum())
        return updates.mean(np.ones(len(updates))) + 0 * loss, Verdict(np.ones(len(updates)))


class _Forgets(Defence):
    def __init__(self) -> None:
        self.rounds = 0

    def weigh(self, updates: Updates) -> Verdict:
        self.rounds += 1
        return Verdict(np.arange(1, len(updates) + 1) ** self.rounds)


class _NeedsFour(Defence):
    def weigh(self, updates: Updates) -> Verdict:
        return Verdict(np.ones(len(updates)), np.partition(updates.norms(), 3))


class _Draws(Defence):
    def weigh(self, updates: Updates) -> Verdict:
        return Verdict(np.random.default_rng().random(len(updates)))


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        (_First, "permutation"),
        (_Writes, "ordinary round"),
        (_Ratio, "zeros"),
        (_TrustsReports, "NaN reports"),
        (_Forgets, "state round trip"),
        (_NeedsFour, "few replies"),
        (_Draws, "determinism"),
    ],
)
def test_the_battery_finds_what_is_wrong_with_a_defence(kind: type[Defence], fault: str) -> None:
    assert fault in broken(check_strategy(lambda: Pipeline(kind())))


class _Nan(Attack):
    def poison_update(self, update: Update) -> Update:
        return update.with_delta(update.delta / np.linalg.norm(update.delta))


class _NotZero(Attack):
    def __init__(self, share: float = 0.5) -> None:
        self.share = share

    def poison_records(self, records: Records) -> Records:
        records.labels[:] = 0
        return records


class _Unseeded(Attack):
    def poison_update(self, update: Update) -> Update:
        return update.with_delta(np.random.default_rng().standard_normal(len(update.delta)))


@pytest.mark.parametrize(
    ("kind", "fault"), [(_Nan, "zeros and huge"), (_NotZero, "dose 0"), (_Unseeded, "determinism")]
)
def test_the_battery_finds_what_is_wrong_with_an_attack(kind: type[Attack], fault: str) -> None:
    assert fault in broken(check_behaviour(lambda **options: [instantiate(kind, options, "own")]))


def test_the_command_checks_a_users_own_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "own_first.py").write_text(
        "from fedrobust.federation import Defence\n\n\nclass OwnFirst(Defence):\n"
        '    """Takes the first."""\n\n    def weigh(self, updates):\n'
        "        return [1] + [0] * (len(updates) - 1)\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["check", "own-first", "nnm | krum(f=2)", "backdoor + boost", "--json"])
    assert end.value.code == 1
    found = json.loads(capsys.readouterr().out)
    faults = {name: [one["check"] for one in rows if one["holds"] is False] for name, rows in found.items()}
    assert faults == {"own-first": ["permutation"], "nnm | krum(f=2)": [], "backdoor + boost": []}


def test_the_command_refuses_an_unknown_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["check", "crum"])
    assert end.value.code == 2
    assert "krum" in capsys.readouterr().err

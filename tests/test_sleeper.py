from __future__ import annotations

import numpy as np
import pytest
from helpers import make_records
from test_hospital import BUFFERS, START, FakeLearner, Spy

from clients.hospital import Hospital
from clients.label_flip import LabelFlip
from clients.sleeper import Sleeper
from fedrobust.federation import Attack, Update

RECORDS = make_records(12)


def fit(hospital: Hospital, round: int) -> Update:
    return hospital.fit(START, BUFFERS, round, 0.01)


@pytest.mark.parametrize("first", [True, False])
def test_sleeper_holds_back_its_chain_wherever_it_stands(first: bool) -> None:
    log: list[str] = []
    spy = Spy("spy", log, factor=-1.0)
    chain: list[Attack] = [Sleeper(rounds=2), spy] if first else [spy, Sleeper(rounds=2)]
    learner = FakeLearner()
    hospital = Hospital(0, RECORDS, learner, chain)
    honest = Hospital(0, RECORDS, FakeLearner())
    for number in (1, 2):
        update = fit(hospital, number)
        np.testing.assert_array_equal(update.parameters, fit(honest, number).parameters)
        assert update.report == fit(honest, number).report
        assert learner.asked[-1]["records"] is RECORDS
    assert log == ["spy: records"]
    np.testing.assert_array_equal(fit(hospital, 3).delta, -np.ones(6))
    assert learner.asked[-1]["records"] is not RECORDS
    assert log == ["spy: records", "spy: update", "spy: report"]


def test_sleeper_while_active_does_what_the_chain_does_without_it() -> None:
    slept = Hospital(0, RECORDS, FakeLearner(), [LabelFlip(share=0.5), Sleeper(1)]).records
    direct = Hospital(0, RECORDS, FakeLearner(), [LabelFlip(share=0.5)]).records
    np.testing.assert_array_equal(slept.labels, direct.labels)


def test_sleeper_longest_sleeper_counts_and_rounds_may_come_in_any_order() -> None:
    hospital = Hospital(0, RECORDS, FakeLearner(), [Sleeper(1), Spy("a", [], factor=5.0), Sleeper(3)])
    assert [float(fit(hospital, number).delta[0]) for number in (4, 2, 3, 5, 1)] == [5, 1, 1, 5, 1]

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import learner_of, tiny
from helpers import make_records
from test_hospital import BUFFERS, START, FakeLearner

from clients.hospital import Hospital
from clients.own_training import OwnTraining
from fedrobust.data.sources import prepare
from fedrobust.learners.base import Fitted, State
from fedrobust.scenario import Scenario


class Asked(FakeLearner):
    """Takes an attacker's own training."""

    def fit(self, state: State, *given: Any, epochs: int = 0, radius: float = 0.0, **more: Any) -> Fitted:
        fitted = super().fit(state, *given, **more)
        self.asked[-1] |= {"epochs": epochs, "radius": radius}
        return fitted


def test_own_training_is_what_the_learner_is_asked_for() -> None:
    learner = Asked()
    hospital = Hospital(0, make_records(8), learner, [OwnTraining(epochs=7, lr=0.5, radius=2.0)])
    hospital.fit(START, BUFFERS, 1, 0.01)
    assert {key: learner.asked[0][key] for key in ("epochs", "lr", "radius")} == {
        "epochs": 7,
        "lr": 0.5,
        "radius": 2.0,
    }
    assert hospital.no_effect == ()
    Hospital(0, make_records(8), learner, [OwnTraining(None, lr=0.5)]).fit(START, BUFFERS, 1, 0.01)
    assert (learner.asked[1]["epochs"], learner.asked[1]["lr"]) == (0, 0.5)


def test_own_training_of_the_built_in_learner(tmp_path: Path) -> None:
    settings = tiny(tmp_path)
    learner, scenario = learner_of(settings), Scenario.of(settings)
    records, start = prepare(scenario.data).of_hospital(0), learner.initial()

    def moved(**more: Any) -> np.ndarray:
        fitted = learner.fit(start, records, round=1, client=0, lr=0.01, **more)
        return fitted.state.parameters - start.parameters

    usual, longer = moved(), moved(epochs=3)
    assert np.array_equal(moved(epochs=1), usual) and np.array_equal(moved(radius=1e6), usual)
    assert np.linalg.norm(longer) > np.linalg.norm(usual)
    radius = 0.3 * float(np.linalg.norm(usual))
    projected = moved(radius=radius, epochs=3)
    assert np.linalg.norm(projected) == pytest.approx(radius, rel=1e-3)
    # Projected after each step, which is not the finished update cut short.
    cosine = projected @ longer / np.linalg.norm(projected) / np.linalg.norm(longer)
    assert 0 < cosine < 0.999

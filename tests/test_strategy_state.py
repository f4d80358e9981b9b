"""What a Flower strategy keeps between rounds survives a checkpoint, and a round that is not kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping, FedAvg

from fedrobust.flower.strategy_state import (
    fewest_updates,
    flower_state,
    load_flower_state,
    remembered,
    unsaved,
)
from fedrobust.results.state import state_from_json, state_to_json


class Keeps(FedAvg):
    """Keeps one of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.momentum: list[Any] = [np.arange(3, dtype=np.float32)]
        self.count, self.name, self.pair = 3, None, (1, {"a": 2.5})
        self.arrays = ArrayRecord({"w": Array(np.ones(2, np.float32))})
        self.draw = np.random.default_rng(5)


def carried(strategy: FedAvg, fresh: Any) -> Any:
    load_flower_state(fresh, state_from_json(state_to_json(flower_state(strategy), "strategy")))
    return fresh


def test_every_attribute_is_carried() -> None:
    strategy = Keeps()
    strategy.momentum = [np.full(3, 7.5, np.float32)]
    strategy.count, strategy.pair = 9, (4, {"a": -1.0})
    strategy.draw.random(11)
    strategy.arrays = ArrayRecord({"w": Array(np.full(2, 0.1, np.float32))})
    found = carried(strategy, Keeps())
    assert found.momentum[0].tobytes() == strategy.momentum[0].tobytes()
    assert (found.count, found.name, found.pair) == (9, None, (4, {"a": -1.0}))
    assert found.arrays["w"].numpy().tobytes() == strategy.arrays["w"].numpy().tobytes()
    assert found.draw.random() == strategy.draw.random()
    assert callable(found.train_metrics_aggr_fn) and unsaved(strategy) == []


def test_a_strategy_within_a_strategy_is_carried() -> None:
    strategy, fresh = (DifferentialPrivacyServerSideFixedClipping(Keeps(), 0.1, 1.0, 3) for _ in range(2))
    strategy.strategy.count = 12  # type: ignore[attr-defined]
    assert carried(strategy, fresh).strategy.count == 12  # type: ignore[arg-type]


def test_what_no_file_can_hold_is_named() -> None:
    strategy = Keeps()
    strategy.pair = (object(), {})  # type: ignore[assignment]
    assert unsaved(strategy) == ["pair (object)"]
    assert "pair" not in flower_state(strategy)


def test_a_round_that_is_not_kept_is_forgotten() -> None:
    strategy = Keeps()
    back = remembered(strategy)
    strategy.momentum[0][:] = np.nan
    strategy.momentum.append(1)
    strategy.count = 100
    strategy.more = 1  # type: ignore[attr-defined]
    back()
    assert strategy.momentum[0].tolist() == [0, 1, 2] and len(strategy.momentum) == 1
    assert strategy.count == 3 and not hasattr(strategy, "more")


def test_the_fewest_updates_are_flowers_own_minimum() -> None:
    assert fewest_updates(FedAvg(min_train_nodes=4, min_available_nodes=4)) == 4
    wrapped = DifferentialPrivacyServerSideFixedClipping(FedAvg(min_train_nodes=3), 0.1, 1.0, 3)
    assert fewest_updates(wrapped) == 3

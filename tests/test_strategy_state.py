"""What a Flower strategy keeps between rounds survives a checkpoint, and a round that is not kept."""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping, FedAvg

from fedrobust.flower.strategy_state import (
    fewest_updates,
    flower_state,
    load_flower_state,
    remembered,
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
    state, unsaved = flower_state(strategy)
    assert unsaved == []
    assert load_flower_state(fresh, state_from_json(state_to_json(state, "strategy"))) == []
    return fresh


def unsaved(strategy: FedAvg) -> list[str]:
    return flower_state(strategy)[1]


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
    assert callable(found.train_metrics_aggr_fn)


def test_a_strategy_within_a_strategy_is_carried() -> None:
    strategy, fresh = (DifferentialPrivacyServerSideFixedClipping(Keeps(), 0.1, 1.0, 3) for _ in range(2))
    strategy.strategy.count = 12  # type: ignore[attr-defined]
    assert carried(strategy, fresh).strategy.count == 12  # type: ignore[arg-type]


def test_what_no_file_can_hold_is_named() -> None:
    strategy = Keeps()
    strategy.pair = (object(), {})  # type: ignore[assignment]
    assert unsaved(strategy) == ["pair (object)"]
    assert "pair" not in flower_state(strategy)[0]["items"]


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


class Slotted:
    """Has room for one attribute."""

    __slots__ = ("slot",)


class Shares(FedAvg, Slotted):
    """Keeps things that lie at two places, in its class, or in a slot."""

    seen: ClassVar[list[int]] = []
    rounds = 0

    def __init__(self) -> None:
        super().__init__()
        self.own: list[Any] = [np.zeros(2)]
        self.again = {"own": self.own, "first": self.own[0]}
        self.slot, self.first, self.many = 1, True, 10**5000
        self.spawns, self.python = np.random.default_rng(3), random.Random(4)
        self.columns = np.asfortranarray(np.arange(6.0).reshape(2, 3))
        self.rule: Any = self.warm_up
        self.me = self
        self.scale = partial(np.multiply, 2)
        self.half = lambda value, by=0.5: value * by

    def warm_up(self) -> None:
        """Do nothing."""

    def main(self) -> None:
        """Do nothing."""


def test_what_is_shared_spawned_or_given_up_is_carried(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy, fresh = Shares(), Shares()
    strategy.own.append(strategy.own)
    strategy.slot = 7
    del strategy.first
    strategy.python.random(), strategy.spawns.spawn(2)
    monkeypatch.setattr(Shares, "seen", [5])
    monkeypatch.setattr(Shares, "rounds", 3)
    kept = state_to_json(flower_state(strategy)[0], "strategy")
    Shares.seen, Shares.rounds = [], 0
    assert load_flower_state(fresh, state_from_json(kept)) == []
    assert fresh.me is fresh and fresh.own[1] is fresh.own is fresh.again["own"]
    assert fresh.again["first"] is fresh.own[0]
    assert (fresh.slot, Shares.seen, Shares.rounds, fresh.many) == (7, [5], 3, 10**5000)
    assert not hasattr(fresh, "first") and fresh.columns.strides == strategy.columns.strides
    assert fresh.python.random() == strategy.python.random()
    assert fresh.spawns.spawn(1)[0].random() == strategy.spawns.spawn(1)[0].random()


class Phase(StrEnum):
    """A text that is not quite one."""

    FIRST = "first"


class Counts:
    """Remembers how often it was called."""

    number = 0

    def __call__(self) -> None:
        self.number += 1


def counting() -> Callable[[], int]:
    number = 0

    def count() -> int:
        nonlocal number
        number += 1
        return number

    return count


def test_what_changes_out_of_sight_is_named() -> None:
    row = np.zeros(4)
    hidden = {
        "called": Counts(), "bound": Counts().__call__, "counted": counting(), "phase": Phase.FIRST,
        "masked": np.ma.masked_array([1.0], mask=[True]), "adds": [].append,
        "given": lambda row=[]: row, "part": partial(counting()), "within": [FedAvg()],
        "row": row, "head": row[:2],
    }  # fmt: skip
    strategy = FedAvg()
    vars(strategy).update(hidden)
    assert {words.partition(" ")[0] for words in unsaved(strategy)} == hidden.keys() - {"row"}


def test_another_rule_than_at_the_beginning_is_named() -> None:
    strategy = Shares()
    strategy.rule = strategy.main
    state, _ = flower_state(strategy)
    assert load_flower_state(Shares(), state) == ["rule (not what it begins with)"]


def test_shared_objects_are_shared_after_a_round_that_is_not_kept() -> None:
    strategy = Shares()
    back, draw = remembered(strategy), strategy.spawns.bit_generator.state
    strategy.own[0][:] = 9
    strategy.spawns.random()
    back()
    assert strategy.again["own"] is strategy.own and strategy.own[0].tolist() == [0, 0]
    assert strategy.spawns.bit_generator.state == draw

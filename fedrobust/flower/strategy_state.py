"""What a strategy keeps between rounds: put back after a round that is not kept, and carried by checkpoints.

Flower's strategies have no interface for it, so all their attributes count. A strategy within a strategy, as
those of differential privacy have one, is part of the outer one's state.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flwr.serverapp.strategy import Strategy

from fedrobust.flower.hosted_strategy import HostedStrategy
from fedrobust.flower.kept_values import Reader, Writer

__all__ = ["fewest_updates", "flower_state", "load_flower_state", "remembered"]


def fewest_updates(strategy: Strategy) -> int:
    """Return how many usable updates a strategy needs in a round, by its own words.

    Rules of the project's own work with any number: they lower what they assume, and say so in the verdict.
    """
    wanted = getattr(strategy, "min_train_nodes", 1)
    inner = getattr(strategy, "strategy", None)
    if isinstance(inner, Strategy):
        return fewest_updates(inner)
    return max(1, wanted) if isinstance(wanted, int) else 1


def fewest_nodes(strategy: Strategy) -> int:
    """Return how many nodes a strategy waits for before it sends anything, by its own words."""
    wanted = [getattr(strategy, name, 1) for name in ("min_available_nodes", "min_train_nodes")]
    inner = getattr(strategy, "strategy", None)
    nested = [fewest_nodes(inner)] if isinstance(inner, Strategy) else []
    return max([1, *nested, *(number for number in wanted if isinstance(number, int))])


def remembered(strategy: Strategy) -> Callable[[], None]:
    """Return a function that puts the strategy back into the state that it is in now."""
    if isinstance(strategy, HostedStrategy):
        parts = strategy.pipeline.parts
        states = [copy.deepcopy(part.state()) for part in parts]

        def load() -> None:
            for part, state in zip(parts, states, strict=True):
                part.load_state(state)

        return load
    made: dict[int, Any] = {}
    before = [
        (one, {name: _copied(value, made) for name, value in vars(one).items()})
        for one in _with_inner(strategy, [])
    ]

    def put_back() -> None:
        for one, attributes in before:
            vars(one).clear()
            vars(one).update(attributes)

    return put_back


def _with_inner(strategy: Strategy, found: list[Strategy]) -> list[Strategy]:
    """Return a strategy and those within it, each once."""
    if not any(strategy is one for one in found):
        found.append(strategy)
        for value in vars(strategy).values():
            if isinstance(value, Strategy):
                _with_inner(value, found)
    return found


def _copied(value: Any, made: dict[int, Any]) -> Any:
    """Return what a strategy may change in place as its own; records of arrays are replaced as wholes.

    An object that is met again is the same copy.
    """
    if id(value) in made:
        return made[id(value)]
    if isinstance(value, dict):
        fresh = made[id(value)] = {}
        fresh.update((key, _copied(one, made)) for key, one in value.items())
        return fresh
    if isinstance(value, list):
        row = made[id(value)] = []
        row.extend(_copied(one, made) for one in value)
        return row
    if type(value) is tuple:
        return tuple(_copied(one, made) for one in value)
    if isinstance(value, np.ndarray | set | np.random.Generator | np.random.RandomState | random.Random):
        made[id(value)] = copy.deepcopy(value)
        return made[id(value)]
    return value


def flower_state(strategy: Strategy) -> tuple[dict[str, Any], list[str]]:
    """Return a Flower strategy's attributes as simple values, and those that have no such form, by name."""
    writer = Writer()
    return writer.written(strategy), writer.unsaved


def load_flower_state(strategy: Strategy, state: Mapping[str, Any]) -> list[str]:
    """Give a strategy of the same settings what `flower_state` returned; return what it cannot be given."""
    reader = Reader()
    reader.load(strategy, state)
    return reader.changed

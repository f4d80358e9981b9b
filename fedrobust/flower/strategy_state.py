"""What a strategy keeps between rounds: put back after a round that is not kept, and carried by checkpoints.

Flower's strategies have no interface for it, so all their attributes count. A strategy within a strategy, as
those of differential privacy have one, is part of the outer one's state.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp.strategy import Strategy

from fedrobust.flower.hosted_strategy import HostedStrategy

__all__ = ["fewest_updates", "flower_state", "load_flower_state", "remembered", "unsaved"]

#: Names the kind of what a mapping of a state stands for; no attribute can have such a name.
_KIND = "(kind)"
_RECORDS = {"MetricRecord": MetricRecord, "ConfigRecord": ConfigRecord}


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
    inner = [remembered(value) for value in vars(strategy).values() if isinstance(value, Strategy)]
    before = {name: _copied(value) for name, value in vars(strategy).items()}

    def put_back() -> None:
        vars(strategy).clear()
        vars(strategy).update(before)
        for back in inner:
            back()

    return put_back


def _copied(value: Any) -> Any:
    """Return what a strategy may change in place as its own; records of arrays are replaced as wholes."""
    if isinstance(value, dict):
        return {key: _copied(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_copied(one) for one in value]
    return value.copy() if isinstance(value, np.ndarray | set) else value


def flower_state(strategy: Strategy) -> dict[str, Any]:
    """Return a Flower strategy's attributes as mappings, lists, numbers, texts and NumPy arrays.

    What belongs to no such kind is left out; see `unsaved`.
    """
    return {name: _simple(value) for name, value in vars(strategy).items() if _fault(value) is None}


def load_flower_state(strategy: Strategy, state: Mapping[str, Any]) -> None:
    """Give a strategy of the same settings what `flower_state` returned."""
    for name, value in state.items():
        if isinstance(value, dict) and value.get(_KIND) == "Strategy":
            load_flower_state(getattr(strategy, name), value["items"])
        else:
            setattr(strategy, name, _restored(value))


def unsaved(strategy: Strategy) -> list[str]:
    """Return the attributes that cannot be written down and may change from round to round, with their type.

    A function, a class or a module is the same in every round and needs not be written.
    """
    found = []
    for name, value in vars(strategy).items():
        if isinstance(value, Strategy):
            found += [f"{name}.{inner}" for inner in unsaved(value)]
        elif (kind := _fault(value)) is not None and not callable(value):
            found.append(f"{name} ({kind})")
    return found


def _fault(value: Any) -> str | None:
    """Return the type of something within a value that has no simple form, or None."""
    if isinstance(
        value, str | bytes | int | float | None | Array | ArrayRecord | MetricRecord | ConfigRecord
    ):
        return None
    if isinstance(value, Strategy | np.random.Generator | np.random.RandomState):
        return None
    if isinstance(value, np.ndarray | np.generic):
        return None if value.dtype.kind in "biufc" else f"array of {value.dtype}"
    if type(value) in (dict, list, tuple, set, frozenset):
        items = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        return next((fault for item in items if (fault := _fault(item)) is not None), None)
    return type(value).__name__


def _simple(value: Any) -> Any:
    if isinstance(value, Strategy):
        return {_KIND: "Strategy", "items": flower_state(value)}
    if isinstance(value, Array):
        return {_KIND: "Array", "items": value.numpy()}
    if isinstance(value, ArrayRecord):
        return {_KIND: "ArrayRecord", "items": {name: array.numpy() for name, array in value.items()}}
    if isinstance(value, MetricRecord | ConfigRecord):
        return {_KIND: type(value).__name__, "items": dict(value)}
    if isinstance(value, np.random.Generator):
        return {_KIND: "Generator", "items": value.bit_generator.state}
    if isinstance(value, np.random.RandomState):
        return {_KIND: "RandomState", "items": value.get_state(legacy=False)}
    if isinstance(value, dict):
        return {key: _simple(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return type(value)(_simple(one) for one in value)
    return value


def _restored(value: Any) -> Any:
    if isinstance(value, list | tuple | set | frozenset):
        return type(value)(_restored(one) for one in value)
    if not isinstance(value, dict):
        return value
    kind: str | None = value.get(_KIND)
    if kind is None:
        return {key: _restored(one) for key, one in value.items()}
    items: Any = value["items"]
    if kind == "Array":
        return Array(items)
    if kind == "ArrayRecord":
        return ArrayRecord({name: Array(array) for name, array in items.items()})
    if kind == "RandomState":
        state = np.random.RandomState()
        state.set_state(items)
        return state
    if kind == "Generator":
        generator = np.random.Generator(getattr(np.random, items["bit_generator"])())
        generator.bit_generator.state = items
        return generator
    return _RECORDS[kind](items)

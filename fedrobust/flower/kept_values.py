"""What a strategy keeps in its attributes, as values that a checkpoint can hold, and back.

What comes back is bit-identical and lies at the same places: an object that two attributes share is shared
again. What cannot be brought back so is named, as a resumed run would have other numbers.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import logging
import random
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from itertools import pairwise
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp.strategy import Strategy
from numpy.lib.array_utils import byte_bounds
from numpy.typing import NDArray

__all__ = ["Reader", "Writer"]

#: Names the kind of what a mapping of a state stands for; no attribute can have such a name.
_KIND = "(kind)"

_RECORDS = {"MetricRecord": MetricRecord, "ConfigRecord": ConfigRecord}
_IMMUTABLE = (str, bytes, int, float, bool, type(None))

#: In the body of a class these are names for something fixed.
_FIXED = (Enum, PurePath, re.Pattern)


class _Unwritable(Exception):
    """A value that cannot be written; the text is its type."""


class Writer:
    """Turns a strategy's attributes into simple values.

    Attributes
    ----------
    unsaved : list of str
        What cannot be written and may change from round to round: attributes, with their type.
    """

    def __init__(self) -> None:
        """Begin with nothing written."""
        self.unsaved: list[str] = []
        self._places: dict[int, int] = {}
        self._strategies: list[Strategy] = []
        self._arrays: list[tuple[str, NDArray[Any]]] = []

    def written(self, strategy: Strategy) -> dict[str, Any]:
        """Return the attributes of a strategy, and of those within it."""
        state = self._strategy(strategy, "")
        for one, other in _sharing(self._arrays):
            self.unsaved.append(f"{one} and {other} (arrays that share memory)")
        return state

    def attributes(self, thing: object) -> dict[str, Any]:
        """Return the attributes of anything else that can be written and are no constants."""
        found: dict[str, Any] = {}
        for name, value in vars(thing).items():
            if not self._is_constant(value):
                self._add(found, name, value, name)
        return found

    def _strategy(self, strategy: Strategy, prefix: str) -> dict[str, Any]:
        self._met(strategy)
        self._strategies.append(strategy)
        found: dict[str, dict[str, Any]] = {"items": {}, "classes": {}}
        for name, value in _attributes(strategy).items():
            self._add(found["items"], name, value, prefix + name)
        for key, (owner, name, value) in _class_data(type(strategy)).items():
            self._add(found["classes"], key, value, f"{prefix}{owner.__name__}.{name}")
        return {_KIND: "Strategy", **found}

    def _add(self, found: dict[str, Any], name: str, value: Any, path: str) -> None:
        """Write an attribute, or name it."""
        try:
            if isinstance(value, Strategy) and id(value) not in self._places:
                found[name] = self._strategy(value, f"{path}.")
            elif self._is_constant(value):
                found[name] = {_KIND: "constant", "items": _described(value)}
            else:
                found[name] = self._simple(value, path)
        except _Unwritable as fault:
            self.unsaved.append(f"{path} ({fault})")

    def _met(self, value: Any) -> int | None:
        """Return the number that an object got when it was first met; None if that is now."""
        before = self._places.get(id(value))
        self._places.setdefault(id(value), len(self._places))
        return before

    def _simple(self, value: Any, path: str) -> Any:
        """Return a value by its exact type: a subclass would not come back as it is."""
        kind = type(value)
        if kind in _IMMUTABLE:
            return value
        if isinstance(value, np.generic) and value.dtype.kind in "biufc":
            return value
        if kind is tuple or kind is frozenset:
            return kind(self._simple(one, path) for one in value)
        # The rest may change in place, or is long: an object that is met again is the same.
        if (before := self._met(value)) is not None:
            return {_KIND: "same", "items": before}
        if kind is np.ndarray:
            return self._array(value, path)
        if kind is list or kind is set:
            return kind(self._simple(one, path) for one in value)
        if kind is dict:
            return {self._simple(key, path): self._simple(one, path) for key, one in value.items()}
        return {_KIND: _kind(value), "items": _items(value)}

    def _array(self, value: NDArray[Any], path: str) -> NDArray[Any]:
        if value.dtype.kind not in "biufc":
            raise _Unwritable(f"array of {value.dtype}")
        self._arrays.append((path, value))
        return value

    def _is_constant(self, value: Any) -> bool:
        """Tell whether something that cannot be written is the same in every round."""
        if isinstance(value, type | ModuleType | np.ufunc | logging.Logger):
            return True
        if isinstance(value, BuiltinFunctionType):
            return isinstance(value.__self__, ModuleType | type | None)
        if isinstance(value, MethodType):
            owner = value.__self__
            return isinstance(owner, type) or any(owner is one for one in self._strategies)
        if isinstance(value, functools.partial):
            return all(self._stays(one) for one in (value.func, *value.args, *value.keywords.values()))
        return (
            isinstance(value, FunctionType)
            and not _counts(value.__code__)
            and all(self._stays(one) for one in _held(value))
        )

    def _stays(self, value: Any) -> bool:
        """Tell whether what a function holds is the same in every round."""
        if type(value) in (tuple, frozenset):
            return all(self._stays(one) for one in value)
        return (
            type(value) in _IMMUTABLE
            or any(value is one for one in self._strategies)
            or self._is_constant(value)
        )


class Reader:
    """Gives a strategy of the same settings what a `Writer` has written.

    Attributes
    ----------
    changed : list of str
        Attributes that are another function, class or module than in the strategy that was given.
    """

    def __init__(self) -> None:
        """Begin with nothing read."""
        self.changed: list[str] = []
        self._objects: list[Any] = []

    def load(self, strategy: Strategy, state: Mapping[str, Any]) -> None:
        """Set the attributes of a strategy, and of those within it."""
        self._objects.append(strategy)
        before = _attributes(strategy)
        for name, value in state["items"].items():
            self._set(strategy, name, value, before.get(name))
        # What a strategy has given up, it does not have again.
        for name in before.keys() - state["items"].keys():
            delattr(strategy, name)
        data = _class_data(type(strategy))
        for key, value in state["classes"].items():
            owner, name, now = data[key]
            self._set(owner, name, value, now)

    def _set(self, owner: Any, name: str, value: Any, now: Any) -> None:
        kind = value.get(_KIND) if isinstance(value, dict) else None
        if kind == "Strategy" and isinstance(now, Strategy):
            self.load(now, value)
        elif kind in ("constant", "Strategy"):
            if kind == "Strategy" or _described(now) != value["items"]:
                self.changed.append(f"{name} (not what it begins with)")
        else:
            setattr(owner, name, self._restored(value))

    def _restored(self, value: Any) -> Any:
        kind = type(value)
        if kind is tuple or kind is frozenset:
            return kind(self._restored(one) for one in value)
        if kind in (list, set, np.ndarray):
            return self._group(value)
        if kind is not dict:
            return value
        named: str | None = value.get(_KIND)
        if named == "same":
            return self._objects[value["items"]]
        made: Any = {} if named is None else _made(named, value["items"])
        self._objects.append(made)
        if named is None:
            made.update((self._restored(key), self._restored(one)) for key, one in value.items())
        return made

    def _group(self, value: Any) -> Any:
        """Return a list, a set or an array; known before what it holds, which may be itself."""
        if isinstance(value, np.ndarray):
            self._objects.append(value)
            return value
        made: Any = type(value)()
        self._objects.append(made)
        items = [self._restored(one) for one in value]
        (made.extend if isinstance(made, list) else made.update)(items)
        return made


def _attributes(strategy: Strategy) -> dict[str, Any]:
    """Return what a strategy has of its own, in slots too."""
    slots = {
        name: getattr(strategy, name)
        for owner in type(strategy).__mro__
        for name, value in vars(owner).items()
        if type(value).__name__ == "member_descriptor" and hasattr(strategy, name)
    }
    return {**slots, **vars(strategy)}


def _class_data(kind: type) -> dict[str, tuple[type, str, Any]]:
    """Return the data in the bodies of a user's classes, with class and name.

    A list there is shared by all objects, and often meant as one's own.
    """
    found: dict[str, tuple[type, str, Any]] = {}
    for owner in kind.__mro__:
        if owner.__module__.partition(".")[0] in ("builtins", "abc", "typing", "flwr", "fedrobust"):
            continue
        for name, value in vars(owner).items():
            # What has __get__ is a method, a property or a slot.
            data = not hasattr(type(value), "__get__") and not isinstance(value, _FIXED)
            if data and not name.startswith(("__", "_abc_")):
                found[f"{owner.__module__}.{owner.__qualname__}.{name}"] = owner, name, value
    return found


def _kind(value: Any) -> str:
    """Return the kind of an object that is written by what it holds."""
    for kind in (ArrayRecord, MetricRecord, ConfigRecord):
        if type(value) is kind:
            return kind.__name__
    if isinstance(value, Array):
        return "Array"
    if type(value) in (np.random.Generator, np.random.RandomState, random.Random):
        return type(value).__name__
    raise _Unwritable(type(value).__name__)


def _items(value: Any) -> Any:
    """Return what such an object holds."""
    if isinstance(value, Array):
        return value.numpy()
    if isinstance(value, ArrayRecord):
        return {name: array.numpy() for name, array in value.items()}
    if isinstance(value, MetricRecord | ConfigRecord):
        return dict(value)
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, np.random.RandomState):
        return value.get_state(legacy=False)
    drawn = value.bit_generator
    source = drawn.seed_seq
    if type(source) is not np.random.SeedSequence:
        raise _Unwritable(f"Generator from a {type(source).__name__}")
    # Generators that it spawns follow from its source and from how many it has spawned.
    spawned = {name: getattr(source, name) for name in ("spawn_key", "pool_size", "n_children_spawned")}
    return {"state": drawn.state, "entropy": source.entropy, **spawned}


def _made(kind: str, items: Any) -> Any:
    """Return the object of a kind that holds this."""
    if kind == "Array":
        return Array(items)
    if kind == "ArrayRecord":
        return ArrayRecord({name: Array(array) for name, array in items.items()})
    if kind == "Random":
        drawn = random.Random()
        drawn.setstate(items)
        return drawn
    if kind == "RandomState":
        state = np.random.RandomState()
        state.set_state(items)
        return state
    if kind == "Generator":
        source = np.random.SeedSequence(
            items["entropy"],
            spawn_key=items["spawn_key"],
            pool_size=items["pool_size"],
            n_children_spawned=items["n_children_spawned"],
        )
        bits = getattr(np.random, items["state"]["bit_generator"])(source)
        bits.state = items["state"]
        return np.random.Generator(bits)
    return _RECORDS[kind](items)


def _described(value: Any) -> str:
    """Return what tells a function, class or module from others, in any process."""
    code = getattr(value, "__code__", None)
    names = [str(getattr(value, name, "")) for name in ("__module__", "__qualname__", "__name__", "name")]
    return ":".join([type(value).__name__, *names, str(code.co_firstlineno if code else "")])


def _held(function: FunctionType) -> Iterator[Any]:
    """Yield what a function holds: variables of the function around it, and defaults."""
    for cell in function.__closure__ or ():
        # A variable that is not set yet.
        with contextlib.suppress(ValueError):
            yield cell.cell_contents
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()


def _counts(code: CodeType) -> bool:
    """Tell whether a function, or one within it, sets a variable of the function around it."""
    sets = any(
        step.opname in ("STORE_DEREF", "DELETE_DEREF") and step.argval in code.co_freevars
        for step in dis.get_instructions(code)
    )
    return sets or any(_counts(inner) for inner in code.co_consts if isinstance(inner, CodeType))


def _sharing(arrays: list[tuple[str, NDArray[Any]]]) -> Iterator[tuple[str, str]]:
    """Yield the names of arrays of which a change to one changes the other, as parts of one array."""
    placed = [(byte_bounds(array), name, array.flags.writeable) for name, array in arrays if array.size]
    placed.sort()
    for (before, one, first), (after, other, second) in pairwise(placed):
        if after[0] < before[1] and (first or second):
            yield one, other

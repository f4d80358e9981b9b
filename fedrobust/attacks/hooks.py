"""Calls of a behaviour's hooks: one that raises or returns something else is one sentence that names it.

The sentence names the plug-in, the method, and what it must return, or the file and the line that failed.
Numbers of NumPy and torch in a report are taken as Python's.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from fedrobust.errors import UserError
from fedrobust.federation import (
    Attack,
    Behaviour,
    ClientMetrics,
    GradientHook,
    Records,
    Trigger,
    Update,
    Vector,
)
from fedrobust.plugins import place_of

__all__ = [
    "collude",
    "forge_report",
    "gradient_hook",
    "is_active",
    "name_of",
    "poison_update",
    "round_records",
    "stamped",
    "transform_records",
]

Number = int | float


def name_of(behaviour: Behaviour) -> str:
    """Return what a behaviour is called in messages: as in the settings, or its class's name."""
    return behaviour.role.name or type(behaviour).__name__


def is_active(behaviour: Behaviour, round: int) -> bool:
    """Return whether a behaviour leaves its chain on in a round."""
    with _calling(behaviour, "is_active"):
        return bool(behaviour.is_active(round))


def transform_records(behaviour: Behaviour, records: Records) -> Records:
    """Return the records that a behaviour makes of those given, which it may change in place."""
    method = "poison_records" if isinstance(behaviour, Attack) else "transform_records"
    with _calling(behaviour, method):
        made = behaviour.transform_records(records)
    return _records(behaviour, method, made)


def round_records(attack: Attack, records: Records) -> Records:
    """Return the records of a round's training that an attack makes of those given."""
    with _calling(attack, "round_records"):
        made = attack.round_records(records)
    return _records(attack, "round_records", made)


def stamped(attack: Attack, records: Records) -> Trigger | None:
    """Return records under an attack's trigger; None without one, or where no record is of another class."""
    with _calling(attack, "trigger"):
        made = attack.trigger(records)
    return made if made is not None and len(made.records) else None


def _records(behaviour: Behaviour, method: str, made: Records) -> Records:
    """Return a hook's records with labels as all have them."""
    if not isinstance(made, Records):
        raise _wrong(behaviour, method, "Records", made)
    if not len(made):
        raise _wrong(behaviour, method, "Records with at least one image", "none")
    if made.labels.dtype.kind not in "iub":
        raise _wrong(behaviour, method, "labels that are integers", f"{made.labels.dtype}")
    return made if made.labels.dtype == np.int64 else replace(made, labels=made.labels.astype(np.int64))


def gradient_hook(attack: Attack, received: Vector) -> GradientHook | None:
    """Return what an attack does to the gradients of a round's training; None where it leaves them alone."""
    with _calling(attack, "gradient_hook"):
        hook = attack.gradient_hook(received)
    if hook is None:
        return None
    if not callable(hook):
        raise _wrong(attack, "gradient_hook", "a function or None", hook)

    def hooked(parameters: Vector, gradient: Vector) -> Vector:
        with _calling(attack, "gradient_hook"):
            made = hook(parameters, gradient)
        if np.shape(made) != gradient.shape:
            shapes = f"a gradient of shape {gradient.shape}"
            raise _wrong(attack, "the function of gradient_hook", shapes, f"one of shape {np.shape(made)}")
        return made

    return hooked


def poison_update(attack: Attack, update: Update) -> Update:
    """Return the update that an attack makes of the one given, which it may change in place."""
    with _calling(attack, "poison_update"):
        made = attack.poison_update(update)
    return _update(attack, "poison_update", made, update)


def forge_report(attack: Attack, report: ClientMetrics) -> ClientMetrics:
    """Return the report that an attack makes of the one given, which it may change in place."""
    with _calling(attack, "forge_report"):
        made = attack.forge_report(report)
    return _report(attack, "forge_report", made)


def collude(attack: Attack, colluders: Sequence[Update], honest: Sequence[Update]) -> list[Update]:
    """Return what the colluders send in a round, one update for each."""
    with _calling(attack, "collude"):
        made = list(attack.collude(colluders, honest))
    if len(made) != len(colluders):
        wanted = f"{len(colluders)} updates, one for each colluder"
        raise _wrong(attack, "collude", wanted, f"{len(made)}")
    checked = []
    for update, own in zip(made, colluders, strict=True):
        fitting = _update(attack, "collude", update, own)
        report = _report(attack, "collude", fitting.report)
        checked.append(fitting if report is fitting.report else replace(fitting, report=report))
    return checked


@contextmanager
def _calling(behaviour: Behaviour, method: str) -> Iterator[None]:
    """Raise what a hook raises as one sentence."""
    try:
        yield
    except UserError as error:
        if str(error).startswith((f"{name_of(behaviour)}:", _label(behaviour))):
            raise
        raise UserError(f"{_label(behaviour)}: {error}") from error
    except (Exception, SystemExit) as error:
        where = place_of(error, inspect.getsourcefile(type(behaviour)))
        raise UserError(f"{_label(behaviour)} fails in {method}: {where}") from error


def _label(behaviour: Behaviour) -> str:
    return f"{'attack' if behaviour.malicious else 'behaviour'} '{name_of(behaviour)}'"


def _wrong(behaviour: Behaviour, method: str, wanted: str, made: object) -> UserError:
    given = made if isinstance(made, str) else "None" if made is None else f"a {type(made).__name__}"
    return UserError(f"{_label(behaviour)}: {method} must return {wanted}, not {given}")


def _update(attack: Attack, method: str, made: object, given: Update) -> Update:
    """Return a hook's update with arrays of the given shapes."""
    if not isinstance(made, Update):
        raise _wrong(attack, method, "an Update", made)
    for name in ("parameters", "buffers"):
        wanted, values = getattr(given, name), getattr(made, name)
        if not isinstance(values, np.ndarray):
            try:
                values = np.asarray(values)
            except Exception:  # noqa: BLE001 - such as a tensor on a device
                values = np.empty(0, object)
            made = replace(made, **{name: values})
        if values.shape != wanted.shape or values.dtype.kind not in "fiub":
            shapes = f"{name} that are numbers of shape {wanted.shape}"
            raise _wrong(attack, method, shapes, f"{values.dtype} of shape {values.shape}")
    return made


def _report(attack: Attack, method: str, made: object) -> ClientMetrics:
    """Return a hook's report with plain numbers."""
    if not isinstance(made, ClientMetrics):
        raise _wrong(attack, method, "ClientMetrics", made)
    count = _plain(made.num_examples)
    if not isinstance(count, int | float):
        raise _wrong(attack, method, "a number of examples (num_examples)", made.num_examples)
    values: dict[str, Number | tuple[Number, ...]] = {}
    for name, value in made.values.items():
        plain = _plain(value)
        if plain is None or not isinstance(name, str):
            raise _wrong(attack, method, f"a number or several for '{name}'", value)
        values[name] = plain
    same = count is made.num_examples and all(values[name] is value for name, value in made.values.items())
    return made if same else ClientMetrics(count, values)  # type: ignore[arg-type]


def _plain(value: object) -> Number | tuple[Number, ...] | None:
    """Return a value of NumPy, torch or Python as plain numbers; None if it is none of these."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float):
        return value
    if not isinstance(value, list | tuple):
        return None
    parts = [_plain(part) for part in value]
    if not all(isinstance(part, int | float) for part in parts):
        return None
    numbers = tuple(part for part in parts if isinstance(part, int | float))
    if len({type(number) for number in numbers}) > 1:
        numbers = tuple(map(float, numbers))
    return value if isinstance(value, tuple) and all(map(_is, numbers, value)) else numbers


def _is(one: object, other: object) -> bool:
    return one is other

"""The parts of a federation that settings stand for: who attacks and how, what is trained, how a state is packed."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import ArrayRecord
from numpy.typing import NDArray

from fedrobust.arrays import LazyArray, record_of
from fedrobust.config import Settings
from fedrobust.data.sources import prepare
from fedrobust.federation import Attack, Role, Vector
from fedrobust.learners.base import State
from fedrobust.plugins import find, instantiate, parse_call, split_chain
from fedrobust.seeding import generator

if TYPE_CHECKING:
    from fedrobust.learners.mutual import MutualLearner

__all__ = [
    "attackers",
    "build_attacks",
    "build_learner",
    "is_odd",
    "odd_hospitals",
    "pack",
    "threats",
    "unpack",
]

#: The settings that a learner depends on, its data's among them.
_LEARNER_SETTINGS = (
    *("seed", "head", "networks", "backbone", "device", "batch_size", "local_epochs", "weight_decay"),
    *("dr_weight", "mutual_weight", "temperature", "data", "data_root", "download", "image_size"),
    *("split", "partition", "clients"),
)


def attackers(settings: Settings) -> tuple[int, ...]:
    """Return the numbers of the malicious hospitals, ascending; they follow from the seed.

    Those with a threat that is an honest peculiarity are not among them.
    """
    groups = [hospitals for chain, hospitals in threats(settings) if not is_odd(chain)]
    return tuple(sorted(number for hospitals in groups for number in hospitals))


def odd_hospitals(settings: Settings) -> tuple[int, ...]:
    """Return the numbers of the hospitals that are odd and honest, ascending."""
    groups = [hospitals for chain, hospitals in threats(settings) if is_odd(chain)]
    return tuple(sorted(number for hospitals in groups for number in hospitals))


def is_odd(chain: str) -> bool:
    """Tell whether a threat is an honest peculiarity: whether all its attacks are."""
    return all(_kind(parse_call(part)[0]).odd for part in split_chain(chain, "+"))


def threats(settings: Settings) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return each threat's attacks, as the settings write them, and its hospitals' numbers, ascending."""
    drawn = generator(settings.seed, "malicious").permutation(settings.clients)
    found, start = [], 0
    for chain, count in settings.threats():
        hospitals = tuple(sorted(int(number) for number in drawn[start : start + count]))
        found.append((chain, hospitals))
        start += count
    return tuple(found)


def build_attacks(settings: Settings, number: int | None = None) -> list[Attack]:
    """Return fresh attacks in the order that the settings join them with ``+``.

    Parameters
    ----------
    settings : Settings
    number : int, optional
        The hospital that they are for; none for an honest one. Unless given, those of all threats, as their first
        hospitals have them, or of `settings.attack` where nobody is malicious.
    """
    attacks = []
    for chain, hospitals in threats(settings) or ((settings.attack, ()),):
        if number is None or number in hospitals:
            member = 0 if number is None else hospitals.index(number)
            attacks += _chain(chain, settings, hospitals, member)
    return attacks


def _kind(name: str) -> type[Attack]:
    return find(name, "clients", (Attack,), "attack")


def _chain(chain: str, settings: Settings, hospitals: tuple[int, ...], member: int) -> list[Attack]:
    attacks: list[Attack] = []
    everybody = attackers(settings)
    for part in split_chain(chain, "+"):
        name, options = parse_call(part)
        attack = instantiate(_kind(name), options, name)
        hospital = hospitals[member] if hospitals else 0
        members = max(1, len(hospitals))
        attack.role = Role(name, hospital, settings.clients, member, members, _defence(settings), everybody)
        attacks.append(attack)
    return attacks


def _defence(settings: Settings) -> str:
    """Return the defence as the server builds it."""
    rate = settings.false_flag_rate
    if rate is not None:
        from fedrobust.hosting import with_rate

        return with_rate(settings.strategy, rate)
    return settings.strategy


def build_learner(settings: Settings) -> MutualLearner:
    """Return the learner for these settings and their data; a process keeps the last one."""
    return _learner(tuple((key, getattr(settings, key)) for key in _LEARNER_SETTINGS))


@functools.lru_cache(maxsize=1)
def _learner(relevant: tuple[tuple[str, object], ...]) -> MutualLearner:
    from fedrobust.learners.mutual import MutualLearner

    settings = Settings(**dict(relevant))
    records = prepare(settings).records
    height, width = records.images.shape[2:]
    return MutualLearner(settings, len(records.classes), records.images.shape[1], (height, width))


def pack(state: State) -> ArrayRecord:
    """Return a state as Flower arrays: one flat vector of parameters, one of running statistics where there are any."""
    arrays = {"parameters": LazyArray(state.parameters)}
    if len(state.buffers):
        arrays["buffers"] = LazyArray(state.buffers)
    return record_of(arrays)


def unpack(arrays: ArrayRecord) -> State:
    """Return what `pack` packed, as views that nobody can write to: the numbers may be the server's own."""
    buffers = arrays["buffers"].numpy() if "buffers" in arrays else np.zeros(0, np.float32)
    parameters = arrays["parameters"].numpy()
    return State(_read_only(parameters), _read_only(buffers))


def _read_only(values: NDArray[Any]) -> Vector:
    view: Vector = values.astype(np.float32, copy=False).view()
    view.flags.writeable = False
    return view

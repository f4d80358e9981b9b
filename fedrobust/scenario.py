"""The parts of a federation that settings stand for: who attacks and how, what is trained, how a state is packed."""

from __future__ import annotations

from fedrobust.federation import Attack, Role
from fedrobust.plugins import find, instantiate, parse_call, split_chain
from fedrobust.seeding import generator
from fedrobust.settings import Settings

__all__ = [
    "attackers",
    "build_attacks",
    "is_odd",
    "odd_hospitals",
    "threats",
]


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
        from fedrobust.flower.hosted_strategy import with_rate

        return with_rate(settings.strategy, rate)
    return settings.strategy

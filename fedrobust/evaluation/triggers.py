"""What the attacks of a federation make of the server's test images; an attack may refuse them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from fedrobust.attacks.hooks import name_of
from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.federation import Attack, Behaviour, Trigger
from fedrobust.plugins import reraise_as_user_error
from fedrobust.seeding import trigger_rng

if TYPE_CHECKING:
    from fedrobust.flower.memory import MemoryStore

__all__ = ["checked_triggers", "latest"]


def checked_triggers(
    attacks: Iterable[Behaviour], test: Records, seed: int, *, classifies: bool = True
) -> list[tuple[Attack, Trigger | None]]:
    """Return each attack with the stamped test images that it wants taken for its target, if it wants any.

    Parameters
    ----------
    attacks : iterable of Behaviour
    test : Records
    seed : int
    classifies : bool
        Whether the hospitals train a network that classifies, which some attacks need.

    Raises
    ------
    UserError
        If an attack does not fit the data.
    """
    found: list[tuple[Attack, Trigger | None]] = []
    for attack in attacks:
        attack.bind(rng=trigger_rng(seed))
        name = name_of(attack)
        if attack.needs_pixels and not test.pixels:
            raise UserError(
                f"attack '{name}' needs images, but {test.source} holds features; choose another one, "
                f"such as label-flip"
            )
        if isinstance(attack, Attack) and attack.needs_model and not classifies:
            raise UserError(
                f"attack '{name}' needs a network that classifies, and here a generator is trained; choose "
                f"another one, such as backdoor"
            )
        with reraise_as_user_error(f"attack '{name}' fails on the test images"):
            attack.check(test)
            trigger = attack.trigger(test) if isinstance(attack, Attack) else None
        if isinstance(attack, Attack):
            found.append((attack, trigger if trigger is not None and len(trigger.records) else None))
    return found


def latest(
    attack: Attack,
    trigger: Trigger,
    attacks: Sequence[Behaviour],
    test: Records,
    seed: int,
    memories: MemoryStore | None,
) -> Callable[[], Trigger]:
    """Return what gives an attack's stamped test images now: as its hospital last left the trigger.

    Parameters
    ----------
    attack : Attack
    trigger : Trigger
        That of a hospital which remembers nothing yet.
    attacks : sequence of Behaviour
        All attacks of the federation, in the order of each hospital's chain.
    test : Records
    seed : int
    memories : MemoryStore or None
        Where the hospitals keep what they remember; None where the server does not see it.
    """
    if not attack.adapts_trigger or memories is None:
        return lambda: trigger
    # A page imports the tasks without Flower.
    from fedrobust.flower.memory import recall

    chain = [one for one in attacks if one.role.hospital == attack.role.hospital]
    place = next(place for place, one in enumerate(chain) if one is attack)

    def now() -> Trigger:
        kept = recall(memories, f"hospital-{attack.role.hospital}", sys.maxsize)
        attack.bind(rng=trigger_rng(seed), memory=kept.get(f"behaviour-{place}", {}))
        with reraise_as_user_error(f"attack '{name_of(attack)}' fails on the test images"):
            return attack.trigger(test) or trigger

    return now

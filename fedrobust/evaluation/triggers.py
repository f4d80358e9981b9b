"""What the attacks of a federation make of the server's test images; an attack may refuse them."""

from __future__ import annotations

from collections.abc import Iterable

from fedrobust.attacks.hooks import name_of
from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.federation import Attack, Behaviour, Trigger
from fedrobust.plugins import reraise_as_user_error
from fedrobust.seeding import trigger_rng

__all__ = ["checked_triggers"]


def checked_triggers(
    attacks: Iterable[Behaviour], test: Records, seed: int
) -> list[tuple[Attack, Trigger | None]]:
    """Return each attack with the stamped test images that it wants taken for its target, if it wants any.

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
        with reraise_as_user_error(f"attack '{name}' fails on the test images"):
            attack.check(test)
            trigger = attack.trigger(test) if isinstance(attack, Attack) else None
        if isinstance(attack, Attack):
            found.append((attack, trigger if trigger is not None and len(trigger.records) else None))
    return found

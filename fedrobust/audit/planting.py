"""Contamination that is planted, so that what an audit should find is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedrobust.attacks.hooks import transform_records
from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.federation import Behaviour
from fedrobust.plugins import AttackChain, find, instantiate
from fedrobust.seeding import generator

__all__ = ["planted"]


def planted(records: Records, attacks: str, seed: int) -> tuple[Records, NDArray[np.bool_]]:
    """Return records as attacks contaminate them, and which they changed, shape (n,).

    Parameters
    ----------
    records : Records
    attacks : str
        Behaviours of ``clients/`` that change records, joined with ``+``, such as
        ``backdoor(size=0.004, share=0.1)``.
    seed : int

    Raises
    ------
    UserError
        If an attack is unknown, cannot work on these records, changes their number, or changes none.
    """
    made = records.take(np.arange(len(records)))
    for place, part in enumerate(AttackChain.parse(attacks).parts):
        attack: Behaviour = instantiate(
            find(part.name, "clients", (Behaviour,), "attack"), part.options, part.name
        )
        attack.check(made)
        attack.bind(rng=generator(seed, "planted", place))
        made = transform_records(attack, made)
    if len(made) != len(records):
        raise UserError(f"'{attacks}' adds or removes records, so that what it changed is not known")
    changed = made.labels != records.labels
    changed |= (made.images != records.images).any(axis=(1, 2, 3))
    if not changed.any():
        raise UserError(f"'{attacks}' changes no record here; name an attack on images or labels")
    return made, changed

"""How a hospital differs from the others: `Behaviour`, and what its hooks may read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedrobust.data.records import Records
from fedrobust.federation.local_model import LocalModel
from fedrobust.federation.memory import Memory
from fedrobust.federation.updates import Update
from fedrobust.plugins import RemembersOptions

__all__ = ["Behaviour", "HookContext", "Role"]


@dataclass(frozen=True)
class Role:
    """The place of a behaviour in the federation.

    Attributes
    ----------
    name : str
        The behaviour's name as the settings write it, such as ``label-flip``.
    hospital : int
        The number of the hospital that has it.
    hospitals : int or None
        How many hospitals the federation has; None where that is unknown.
    member : int
        Its place, from 0, among the hospitals of the same threat.
    members : int
        How many hospitals the threat has.
    strategy : str
        The defence in use as the settings write it; empty where that is unknown. Only an attack whose options
        or docstring say that it knows the defence may read it.
    attackers : tuple of int
        The numbers of all malicious hospitals, of all threats; empty where they are unknown.
    seed : int
        The run's seed, for what the hospitals of a threat draw alike without a word: `rng` differs by
        hospital.
    """

    name: str = ""
    hospital: int = 0
    hospitals: int | None = None
    member: int = 0
    members: int = 1
    strategy: str = ""
    attackers: tuple[int, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class HookContext:
    """What a behaviour's hooks may read; `Behaviour.bind` replaces it before they run.

    Attributes
    ----------
    role : Role
    rng : numpy.random.Generator or None
        Bound to the run's seed, the round and the hospital; None before the first hook.
    honest : Update or None
        What the hospital would have sent without its behaviours in this round; None where no attack asks for
        it.
    model : LocalModel or None
        The received model in the hospital's hands; None where no attack asks for it.
    """

    role: Role = Role()
    rng: np.random.Generator | None = None
    honest: Update | None = None
    model: LocalModel | None = None


class Behaviour(RemembersOptions):
    """What makes a hospital differ from the others: benign, such as another scanner, or an attack.

    A benign behaviour changes the records that the hospital trains on. It is one public class in one file of
    ``clients/``, as an attack is. A hospital is malicious if a behaviour of its chain is; one with benign
    behaviours only is atypical and counts as honest everywhere.
    """

    #: True of attacks, and of faults that a defence should exclude.
    malicious: ClassVar[bool] = False

    #: True if it works on the places of pixels in an image, so that features in place of images do not do.
    needs_pixels: ClassVar[bool] = False

    _context: HookContext = HookContext()
    _memory: Memory | None = None

    @property
    def role(self) -> Role:
        """Return its place in the federation; the default where it is used by itself."""
        return self._context.role

    @property
    def rng(self) -> np.random.Generator:
        """Return the generator of this hook's draws, bound to the run's seed, the round and the hospital."""
        if self._context.rng is None:
            raise AttributeError(f"{type(self).__name__}.rng is there in hooks only")
        return self._context.rng

    @property
    def memory(self) -> Memory:
        """Return what it keeps from round to round: names to NumPy arrays and to what JSON can hold.

        A hospital's behaviour finds in its hooks what it left in the hospital's round before, wherever that
        was trained, and nothing in the first one. It stays where the hospital is; only its size is reported.
        In `collude` it is the memory of all hospitals of the threat together.
        """
        if self._memory is None:
            self._memory = {}
        return self._memory

    def bind(
        self,
        *,
        role: Role | None = None,
        rng: np.random.Generator | None = None,
        honest: Update | None = None,
        model: LocalModel | None = None,
        memory: Memory | None = None,
    ) -> None:
        """Set what the next hooks read; parts not given stay, but `honest` and `model`, of one round."""
        if memory is not None:
            self._memory = memory
        now = self._context
        self._context = HookContext(
            now.role if role is None else role, now.rng if rng is None else rng, honest, model
        )

    def is_active(self, round: int) -> bool:
        """Return False to switch off all behaviours of its chain in this round."""
        return True

    def check(self, records: Records) -> None:
        """Raise `UserError` if it cannot work on such records; called on the server before anything runs."""

    def transform_records(self, records: Records) -> Records:
        """Return the records that the hospital trains on; called once, before the first round."""
        return records

    @property
    def transforms_records(self) -> bool:
        """Return whether the hospital trains on other records: whether it overrides `transform_records`."""
        return type(self).transform_records is not Behaviour.transform_records

"""What an attack overrides: `Attack`, its `Role` in the federation and its `Trigger`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from fedrobust.data.records import Records
from fedrobust.federation.updates import ClientMetrics, Update, Vector

__all__ = ["Attack", "GradientHook", "Role", "Trigger"]

#: How an attack bends its hospital's training: the parameters at an optimiser step and the gradient of the task's loss
#: there, both of shape (d,), to the gradient that the optimiser gets. The arrays are only lent, and not to be changed.
GradientHook = Callable[[Vector, Vector], Vector]


@dataclass(frozen=True)
class Trigger:
    """What a backdoor wants: these records, stamped, to be taken for the target class."""

    records: Records
    target: int


@dataclass(frozen=True)
class Role:
    """What an attack is told of its place in the federation.

    Attributes
    ----------
    name : str
        The attack's name as the settings write it, such as ``label-flip``.
    hospital : int
        The number of the hospital that carries it out.
    hospitals : int or None
        How many hospitals the federation has; None where nobody has said so.
    member : int
        Its place, from 0, among the hospitals of the same threat.
    members : int
        How many hospitals the threat has.
    strategy : str
        The defence in use as the settings write it; empty where nobody has said so. Only an attack that says in its
        options or docstring that it knows the defence may read it.
    attackers : tuple of int
        The numbers of all malicious hospitals, of whichever threat; empty where nobody has said so.
    """

    name: str = ""
    hospital: int = 0
    hospitals: int | None = None
    member: int = 0
    members: int = 1
    strategy: str = ""
    attackers: tuple[int, ...] = ()


class Attack:
    """What a poisoned hospital does. Every method is optional; the default changes nothing.

    All but `collude` run inside the malicious hospital, so such an attack works the same in a simulation and in a real
    federation. An attack is one public class in one file of ``clients/``.

    Attributes
    ----------
    rng : numpy.random.Generator
        Set before `poison_records` and before each round; bound to the run's seed, the round, and the hospital.
    role : Role
        Set before anything else; the default where an attack is used by itself.
    honest : Update
        What the hospital would have sent, had it trained on its own clean records; set before `gradient_hook` where the class
        says `needs_honest`.
    """

    #: Whose updates of a round the attack sees: its own hospital's, those of all its colluders, or everybody's.
    #: An attack in which that is an option sets it in its constructor.
    knowledge: Literal["own", "colluders", "all"] = "own"

    #: True if the attack reads `honest`. Where an attack of the chain poisons records or hooks_gradient, that costs a second
    #: training.
    needs_honest: ClassVar[bool] = False

    #: True of an honest peculiarity, such as another scanner. A hospital whose whole chain is odd counts as honest.
    odd: ClassVar[bool] = False

    rng: np.random.Generator
    role: Role = Role()
    honest: Update

    def is_active(self, round: int) -> bool:
        """Return False to hold back all attacks of its chain in this round; the hospital is then honest."""
        return True

    def check(self, records: Records) -> None:
        """Raise `UserError` if the attack cannot work on such records; called on the server before anything runs."""

    def poison_records(self, records: Records) -> Records:
        """Return the records that the hospital trains on; called once, before the first round."""
        return records

    def gradient_hook(self, received: Vector) -> GradientHook | None:
        """Return how the poisoned training is bent in this round; None for a training as usual.

        Parameters
        ----------
        received : ndarray of float32, shape (d,)
            The parameters that the training starts from, only lent for the round.
        """
        return None

    def poison_update(self, update: Update) -> Update:
        """Return the update that the hospital sends, given the one that it trained."""
        return update

    def forge_report(self, report: ClientMetrics) -> ClientMetrics:
        """Return what the hospital claims, given the truth."""
        return report

    def collude(self, colluders: Sequence[Update], honest: Sequence[Update]) -> Sequence[Update]:
        """Return the updates that the colluders send in a round; override it for an attack that sees several.

        It runs where the messages meet, in simulations only, after the hospitals' own part (`poison_update`,
        `forge_report`) of all attacks of the chain. `rng` is then bound to the seed, the attack's place and the round.

        Parameters
        ----------
        colluders : sequence of Update
            What the hospitals of this threat that reply would send by themselves, in the order of their numbers.
        honest : sequence of Update
            What the honest hospitals send, in the same order; empty unless `knowledge` is ``"all"``.

        Returns
        -------
        sequence of Update
            One for each colluder, in the given order; parameters, buffers and report count. The arrays given are
            read-only views.
        """
        return colluders

    @property
    def colludes(self) -> bool:
        """Return whether the attack needs to see several updates: whether it overrides `collude`."""
        return type(self).collude is not Attack.collude

    @property
    def hooks_gradient(self) -> bool:
        """Return whether the attack bends the training: whether it overrides `gradient_hook`."""
        return type(self).gradient_hook is not Attack.gradient_hook

    def trigger(self, records: Records) -> Trigger | None:
        """Return test records with the attack's trigger, those of the target class left out; None without one."""
        return None

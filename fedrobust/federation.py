"""The words that attacks and defences are written in: Update, Updates, Verdict, Defence, Attack.

Nothing here knows Flower, a network or a data set, so a rule can be read, tested and reused by itself. What a round's
replies offer to a rule stands in `fedrobust.updates`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.updates import Report, Update, Updates, Vector, Verdict

__all__ = [
    "Attack",
    "Defence",
    "PreAggregation",
    "Report",
    "Role",
    "ServerData",
    "Steering",
    "Trigger",
    "Update",
    "Updates",
    "Vector",
    "Verdict",
    "ViewedServerData",
]

#: How an attack bends its hospital's training: the parameters at an optimiser step and the gradient of the task's loss
#: there, both of shape (d,), to the gradient that the optimiser gets. The arrays are only lent, and not to be changed.
Steering = Callable[[Vector, Vector], Vector]


class ServerData(Protocol):
    """Labelled images of the server's own, and what a defence may ask of a model on them.

    Attributes
    ----------
    labels : ndarray of int64, shape (m,)
        The images' classes.
    """

    labels: NDArray[np.int64]

    def losses(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.int64] | None = None
    ) -> NDArray[np.float64]:
        """Return each image's loss under a model, shape (m,); of some images only, if their places are given."""
        ...

    def trained(self, parameters: Vector, buffers: Vector, round: int) -> Update:
        """Return the update of a hospital that holds just these images."""
        ...


@runtime_checkable
class ViewedServerData(ServerData, Protocol):
    """Images of the server's own that it can also show as scanners of other makes would give them."""

    def views(self) -> Sequence[ServerData]:
        """Return some of the images: as they are, then the same ones once for each other scanner."""
        ...


class Defence:
    """How the server turns updates into the next global parameters.

    Override `weigh` (weights; the weighted mean follows) or `combine` (anything else). A defence is one public
    class in one file of ``strategies/``; its constructor's keyword arguments are its options.
    """

    #: Claims of the hospitals that the rule believes, of ``"loss"`` and ``"num_examples"``; the report prints them.
    trusts: ClassVar[frozenset[str]] = frozenset()

    #: True if the rule is told what no server can know, such as who is malicious; the manifest says so.
    oracle: ClassVar[bool] = False

    #: True for the plain mean itself: a run does not say that it changed nothing.
    plain_mean: ClassVar[bool] = False

    #: Share of the server's validation part that the rule looks at, in [0, 1]; a rule that does sets it in its
    #: constructor and finds the images in `server`. The manifest prints it.
    server_share: float = 0.0

    #: True if the rule cannot do without those images: it then looks at them with `images()`.
    needs_server: ClassVar[bool] = False

    #: Set before the first round where `server_share` is not 0 and the server has images.
    server: ServerData | None = None

    def images(self) -> ServerData:
        """Return the server's own images, for a rule that cannot do without; `UserError` where there are none."""
        if self.server is None:
            raise UserError(
                f"{type(self).__name__} needs labelled images of the server's own; outside fedrobust's own runs "
                f"give them with fedrobust.strategy(..., server=...)"
            )
        return self.server

    def check(self, hospitals: int) -> None:
        """Raise `UserError` if the options do not fit so many hospitals; called before anything runs.

        In a round fewer may reply; then a rule makes do with them.
        """

    def preload(self) -> None:
        """Import what is heavy; called while the hospitals train round 1. It need not do anything."""

    def weigh(self, updates: Updates) -> Verdict | ArrayLike:
        """Return each hospital's weight, as a `Verdict` or as plain numbers, shape (n,)."""
        raise NotImplementedError(f"{type(self).__name__} overrides neither weigh nor combine")

    def combine(self, updates: Updates) -> tuple[Vector, Verdict]:
        """Return the new global parameters, shape (d,), and the verdict."""
        said = self.weigh(updates)
        verdict = (said if isinstance(said, Verdict) else Verdict(said)).checked(len(updates))
        if not np.any(verdict.weight):
            return updates.global_parameters.copy(), verdict
        return updates.mean(verdict.weight), verdict

    def combine_buffers(self, updates: Updates) -> Vector | None:
        """Return the new running statistics, shape (b,); None for their mean with the verdict's weights.

        For a rule that gives weight to all and yet withstands some of them. Called where there are running statistics,
        with the updates as they came: steps before the defence do not reach it.
        """
        return None

    def state(self) -> dict[str, Any]:
        """Return what must survive a restart: mappings, lists, numbers, texts and NumPy arrays, of whatever keys."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned, the same values."""


class PreAggregation(ABC):
    """A step before a defence, such as clipping or mixing: maps updates to updates.

    They are of the same hospitals, or a `fedrobust.aggregation.mixing.Mixed` says how they come from them.
    """

    @abstractmethod
    def transform(self, updates: Updates) -> Updates:
        """Return the updates that the next step sees; the given ones stay untouched."""

    def check(self, hospitals: int) -> int:
        """Return how many updates the next step gets of so many hospitals; `UserError` if the options do not fit."""
        return hospitals

    def state(self) -> dict[str, Any]:
        """Return what must survive a restart; see `Defence.state`."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - most steps keep nothing
        """Take back what `state` returned."""


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
        What the hospital would have sent, had it trained on its own clean records; set before `steer` where the class
        says `needs_honest`.
    """

    #: Whose updates of a round the attack sees: its own hospital's, those of all its colluders, or everybody's.
    #: An attack in which that is an option sets it in its constructor.
    knowledge: Literal["own", "colluders", "all"] = "own"

    #: True if the attack reads `honest`. Where an attack of the chain poisons records or steers, that costs a second
    #: training.
    needs_honest: ClassVar[bool] = False

    #: True of an honest peculiarity, such as another scanner. A hospital whose whole chain is odd counts as honest.
    odd: ClassVar[bool] = False

    rng: np.random.Generator
    role: Role = Role()
    honest: Update

    def awake(self, round: int) -> bool:
        """Return False to hold back all attacks of its chain in this round; the hospital is then honest."""
        return True

    def check(self, records: Records) -> None:
        """Raise `UserError` if the attack cannot work on such records; called on the server before anything runs."""

    def poison_records(self, records: Records) -> Records:
        """Return the records that the hospital trains on; called once, before the first round."""
        return records

    def steer(self, received: Vector) -> Steering | None:
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

    def forge_report(self, report: Report) -> Report:
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
    def steers(self) -> bool:
        """Return whether the attack bends the training: whether it overrides `steer`."""
        return type(self).steer is not Attack.steer

    def trigger(self, records: Records) -> Trigger | None:
        """Return test records with the attack's trigger, those of the target class left out; None without one."""
        return None


class Client(ABC):
    """One participant of the federation; `clients/hospital.py` is the honest one."""

    @abstractmethod
    def fit(self, parameters: Vector, buffers: Vector, round: int, lr: float) -> Update:
        """Train from the received parameters and return the update to send."""

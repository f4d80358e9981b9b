"""What a defence overrides: `Defence` and `PreAggregation`, and the server data that they may ask for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedrobust.errors import UserError
from fedrobust.federation.updates import Update, Updates, Vector, Verdict
from fedrobust.plugins import RemembersOptions

__all__ = ["Defence", "DifferentiableServerData", "PreAggregation", "ServerData", "State"]

#: What a rule keeps between rounds: mappings with any keys, lists, numbers, texts and NumPy arrays.
State = Mapping[str, Any]


class ServerData(Protocol):
    """Labelled images of the server's own, on which a defence may evaluate and train models.

    Attributes
    ----------
    labels : ndarray of int64, shape (m,)
        The images' classes.
    """

    labels: NDArray[np.int64]

    def losses(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.int64] | None = None
    ) -> NDArray[np.float64]:
        """Return each image's loss under a model, shape (m,); only of some, if their places are given."""
        ...

    def trained(self, parameters: Vector, buffers: Vector, round: int) -> Update:
        """Return the update of a hospital that holds just these images."""
        ...


@runtime_checkable
class DifferentiableServerData(ServerData, Protocol):
    """Images of the server's own whose loss it can also differentiate."""

    def gradients(self, parameters: Vector, buffers: Vector) -> Iterable[Vector]:
        """Yield the gradient of the mean loss of each class with images, ascending; shape (d,) each."""
        ...


class Defence(RemembersOptions):
    """How the server turns updates into the next global parameters.

    Override `weigh` (weights; the weighted mean follows) or `combine` (anything else). A defence is one
    public class in one file of ``strategies/``; its constructor's keyword arguments are its options.
    """

    #: Reported metrics that the rule relies on, of ``"loss"`` and ``"num_examples"``; the report prints them.
    trusts: ClassVar[frozenset[str]] = frozenset()

    #: True if the rule is given what no server can know, such as who is malicious; the manifest says so.
    oracle: ClassVar[bool] = False

    #: True for the plain mean itself: a run does not say that it had no effect.
    plain_mean: ClassVar[bool] = False

    #: True if the rule decides between equal scores by the hospitals' numbers where its paper leaves it open.
    ties_by_number: ClassVar[bool] = False

    #: Share of the server's validation part that the rule evaluates on, in [0, 1]; a rule that does sets it
    #: in its constructor and finds the images in `server`. The manifest prints it.
    server_share: float = 0.0

    #: True if the rule cannot do without those images: it then takes them from `images()`.
    needs_server: ClassVar[bool] = False

    #: Set before the first round where `server_share` is not 0 and the server has images.
    server: ServerData | None = None

    def images(self) -> ServerData:
        """Return the server's own images, for a rule that cannot do without; `UserError` without any."""
        if self.server is None:
            raise UserError(
                f"{type(self).__name__} needs labelled images of the server's own; outside fedrobust's own "
                f"runs give them with fedrobust.strategy(..., server=...)"
            )
        return self.server

    def check(self, hospitals: int) -> None:
        """Raise `UserError` if the options do not fit so many hospitals; called before anything runs.

        Fewer may reply in a round; a rule must work with them.
        """

    def preload(self) -> None:
        """Import what is heavy; called while the hospitals train round 1. It need not do anything."""

    def weigh(self, updates: Updates) -> Verdict | ArrayLike:
        """Return each hospital's weight, as a `Verdict` or as plain numbers, shape (n,)."""
        raise NotImplementedError(f"{type(self).__name__} overrides neither weigh nor combine")

    def combine(self, updates: Updates) -> tuple[Vector, Verdict]:
        """Return the new global parameters, shape (d,), and the verdict."""
        weighed = self.weigh(updates)
        verdict = (weighed if isinstance(weighed, Verdict) else Verdict(weighed)).checked(len(updates))
        if not np.any(verdict.weight):
            return updates.global_parameters.copy(), verdict
        return updates.mean(verdict.weight), verdict

    def combine_buffers(self, updates: Updates) -> Vector | None:
        """Return the new running statistics, shape (b,); None for their mean with the verdict's weights.

        For a rule that gives weight to all hospitals and yet is robust to some of them. Called if there are
        running statistics, with the updates as received: steps before the defence do not apply.
        """
        return None

    def state(self) -> State:
        """Return what must survive a restart.

        It is encoded at once (`fedrobust.results.state`), so nothing has to be copied or made into text.
        """
        return {}

    def load_state(self, state: State) -> None:
        """Take back what `state` returned, the same values."""


class PreAggregation(RemembersOptions, ABC):
    """A step before a defence, such as clipping or mixing: maps updates to updates.

    The result is of the same hospitals, or a `fedrobust.federation.mixed.Mixed` that holds how it is
    composed.
    """

    @abstractmethod
    def transform(self, updates: Updates) -> Updates:
        """Return the updates that the next step sees; the given ones stay untouched."""

    def check(self, hospitals: int) -> int:
        """Return how many updates the next step gets of so many hospitals; `UserError` if that fails."""
        return hospitals

    def state(self) -> State:
        """Return what must survive a restart; see `Defence.state`."""
        return {}

    def load_state(self, state: State) -> None:
        """Take back what `state` returned."""

"""What a defence overrides: `Defence` and `PreAggregation`, and the server data that they may ask for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedrobust.errors import UserError
from fedrobust.federation.layout import Layout
from fedrobust.federation.updates import Update, Updates, Vector, Verdict
from fedrobust.plugins import RemembersOptions

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Defence",
    "DifferentiableServerData",
    "Model",
    "PreAggregation",
    "Repair",
    "ServerData",
    "ServerModel",
    "State",
    "server_model",
]

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

    def trained(self, parameters: Vector, buffers: Vector, round: int, epochs: int | None = None) -> Update:
        """Return the update of a hospital that holds just these images, after its or so many epochs."""
        ...


@runtime_checkable
class DifferentiableServerData(ServerData, Protocol):
    """Images of the server's own whose loss it can also differentiate."""

    def gradients(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.int64] | None = None
    ) -> Iterable[Vector]:
        """Yield the gradient of the mean loss of each class with images, ascending; shape (d,) each.

        Only of some images, if their places are given.
        """
        ...


@runtime_checkable
class ServerModel(DifferentiableServerData, Protocol):
    """The model in a server's hands: its images themselves, and what a model makes of any images.

    Attributes
    ----------
    images : ndarray of uint8, shape (m, channels, height, width)
        The server's own images, in the order of `labels`.
    classes : int
        K.
    """

    images: NDArray[np.uint8]
    classes: int

    def probabilities(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.uint8]
    ) -> NDArray[np.float64]:
        """Return the class probabilities of any images, shape (n, K)."""
        ...

    def features(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.uint8]
    ) -> Mapping[str, NDArray[np.float32]]:
        """Return the activations of any images that enter the last layer, shape (n, inputs).

        They stand under the name of that layer's weight in the layout; an ensemble has such a layer for each
        network.
        """
        ...

    def logits(self, parameters: Tensor, buffers: Vector, images: Tensor) -> Tensor:
        """Return log-probabilities of images in [0, 1], shape (n, K), as torch differentiates them.

        For rules that learn images: both flat parameters and images may need gradients, also of gradients.
        """
        ...

    def gradient(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.uint8], labels: NDArray[np.int64]
    ) -> Vector:
        """Return the gradient of the mean loss of any images with any labels, shape (d,)."""
        ...


@dataclass(frozen=True)
class Model:
    """A global model in the server's hands.

    Attributes
    ----------
    parameters : ndarray of float32, shape (d,)
    buffers : ndarray of float32, shape (b,)
        Running statistics.
    round : int
        The round that it begins or ends.
    layout : Layout or None
        Where the layers lie; None where that is unknown.
    seed : int
        For what draws (see `fedrobust.seeding.generator`).
    """

    parameters: Vector
    buffers: Vector = field(default_factory=lambda: np.zeros(0, np.float32))
    round: int = 1
    layout: Layout | None = None
    seed: int = 0


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
        return _images(self)

    def check(self, hospitals: int) -> None:
        """Raise `UserError` if the options do not fit so many hospitals; called before anything runs.

        Fewer may reply in a round; a rule must work with them.
        """

    def preload(self) -> None:
        """Import what is heavy; called while the hospitals train round 1. It need not do anything."""

    def before_round(self, model: Model) -> Model:
        """Return the model that the round sends in place of the given one; the updates are then from it.

        Where the round gives no new model, the given one stays. What it keeps for `weigh` need not survive a
        restart, as a resumed round begins here again.
        """
        return model

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

    def repair(self, model: Model) -> Model:
        """Return the model that the round ends with, given what follows from `combine`; before any `Repair`.

        With a server optimiser the given model is what that made. The given arrays stay untouched.
        """
        return model

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


class Repair(RemembersOptions, ABC):
    """A step after a defence that works on the new model alone: ``flame | csft``.

    It sees no update. What it needs of the server's images it declares as a defence does.
    """

    #: See `Defence`.
    server_share: float = 0.0
    needs_server: ClassVar[bool] = False
    server: ServerData | None = None

    @abstractmethod
    def repair(self, model: Model) -> Model:
        """Return the model that the round ends with; the given arrays stay untouched."""

    def images(self) -> ServerData:
        """Return the server's own images; `UserError` without any."""
        return _images(self)

    def model(self) -> ServerModel:
        """Return the server's images with what models make of images; `UserError` without them."""
        return server_model(self)

    def state(self) -> State:
        """Return what must survive a restart; see `Defence.state`."""
        return {}

    def load_state(self, state: State) -> None:
        """Take back what `state` returned."""


def _images(part: Defence | Repair) -> ServerData:
    if part.server is None:
        raise UserError(
            f"{type(part).__name__} needs labelled images of the server's own; outside fedrobust's own "
            f"runs give them with fedrobust.strategy(..., server=...)"
        )
    return part.server


def server_model(part: Defence | Repair) -> ServerModel:
    """Return a part's server images with what models make of images.

    Raises
    ------
    UserError
        If it has none: outside a run the images given may know losses only.
    """
    if not isinstance(part.server, ServerModel):
        raise UserError(
            f"{type(part).__name__} needs images of the server's own with their gradients; use it in "
            f"fedrobust's own runs, or give a ServerModel with fedrobust.strategy(..., server=...)"
        )
    return part.server

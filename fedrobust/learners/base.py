"""The interface of a learner: a model with its training and prediction, free of any federation.

Tasks, clients and strategies use only this interface; `mutual.py` implements it for classification, `gan.py`
for synthesis.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.records import Records
from fedrobust.federation import ClientMetrics, GradientHook, Vector

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["ClassifyingLearner", "Fitted", "LabelledImages", "Learner", "Prediction", "State"]


@dataclass(frozen=True)
class State:
    """A model: trainable parameters, shape (d,), and running statistics, shape (b,), both float32."""

    parameters: Vector
    buffers: Vector


@dataclass(frozen=True)
class Fitted:
    """The outcome of local training: the new state and its true metrics."""

    state: State
    report: ClientMetrics


@dataclass(frozen=True)
class Prediction:
    """Class probabilities, shape (n, K), each record's loss, shape (n,), and the mean of the losses."""

    probabilities: NDArray[np.float64]
    losses: NDArray[np.float64]
    loss: float


#: Images, uint8 or float32 in [0, 1], shape (n, channels, height, width), and their labels, shape (n,).
LabelledImages = tuple[NDArray[np.uint8] | NDArray[np.float32], NDArray[np.int64]]


class Learner(Protocol):
    """A model with its training and prediction, free of any federation."""

    def initial(self) -> State:
        """Return the state that every participant starts from; it follows from the seed."""
        ...

    def fit(
        self,
        state: State,
        records: Records,
        *,
        round: int,
        client: int,
        lr: float,
        gradient_hook: GradientHook | None = None,
        epochs: int | None = None,
        radius: float | None = None,
        received: bool = True,
    ) -> Fitted:
        """Train from the state on the records; the result depends on the arguments and the seed alone.

        With `gradient_hook` the optimiser gets what it makes of each step's gradient. `epochs` stands in
        place of the usual number; with `radius` the parameters are projected after each step onto the ball
        of this radius around the received ones. Only attacks and the server's own training ask for the
        three. Without `received` the losses of the received model are neither evaluated nor reported. A
        learner with the attribute `remembers = True` is also given `memory`, a dictionary of its own that
        holds what it left there in the hospital's round before; the result depends on that, too.
        """
        ...

    def settled(self, state: State, sent: State | None, round: int) -> State:
        """Return what the server keeps of a round's new model, given the one that it sent; None at round 0.

        Most learners keep all of it.
        """
        ...

    def named_tensors(self, state: State) -> Mapping[str, NDArray[np.float32]]:
        """Return the model under its layers' names, with all that a reload needs."""
        ...


class ClassifyingLearner(Learner, Protocol):
    """A learner whose model classifies images."""

    def predict(
        self,
        state: State,
        images: NDArray[np.uint8] | NDArray[np.float32],
        labels: NDArray[np.int64],
        views: int = 1,
    ) -> Prediction:
        """Predict images, uint8 or float32 in [0, 1], shape (n, channels, height, width).

        With several `views` the probabilities of so many views of each image are averaged.
        """
        ...

    def classifier(self, state: State, views: int = 1) -> nn.Module:
        """Return a module of its own from images in [0, 1] to log-probabilities, fixed and differentiable."""
        ...

    def gradients(self, state: State, batches: Iterable[LabelledImages]) -> list[Vector]:
        """Return the gradient of each batch's mean loss in the parameters, shape (d,), dropout off."""
        ...

    def features(self, state: State, images: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        """Return what enters the last layer of weights of each network, shape (n, inputs).

        The keys are the names of those layers' weights in the layout.
        """
        ...

    def logits(self, parameters: Tensor, buffers: Vector, images: Tensor) -> Tensor:
        """Return log-probabilities, shape (n, K), as a function that torch can differentiate repeatedly.

        The mean over networks, of images in [0, 1]; `torch.func.vmap` may run over either.
        """
        ...

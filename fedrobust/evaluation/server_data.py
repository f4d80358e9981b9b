"""The server's own images that a defence may use: a share of the validation part."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.records import Records, class_members
from fedrobust.federation import Update, Vector
from fedrobust.learners.base import ClassifyingLearner, State
from fedrobust.seeding import generator

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ServerShare"]

#: The number under which the server trains; no hospital has it.
_SERVER = -1


class ServerShare:
    """A share of the validation images, drawn class by class, with the learner to evaluate models on them.

    Parameters
    ----------
    learner : ClassifyingLearner
    validation : Records
        The server's validation part.
    share : float
        In (0, 1]; of each class at least one image is taken.
    seed : int
    lr : float
        The learning rate of `trained`; the rounds keep it up to date.

    Attributes
    ----------
    labels : ndarray of int64, shape (m,)
    images : ndarray of uint8, shape (m, channels, height, width)
    classes : int
    share : float
        As given; m is rounded up class by class.
    places : ndarray of int64, shape (m,)
        Where the images stand in the validation part, ascending.
    """

    def __init__(
        self, learner: ClassifyingLearner, validation: Records, share: float, seed: int, lr: float
    ) -> None:
        """Draw the images."""
        draw = generator(seed, "server share")
        chosen = []
        for k in range(len(validation.classes)):
            members = draw.permutation(np.flatnonzero(validation.labels == k))
            chosen.append(members[: _part(len(members), share)])
        self.places = np.sort(np.concatenate(chosen))
        self._records = validation.take(self.places)
        self._learner = learner
        self.labels: NDArray[np.int64] = self._records.labels
        self.images: NDArray[np.uint8] = self._records.images
        self.classes = len(validation.classes)
        self.share = share
        self.lr = lr

    def losses(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.int64] | None = None
    ) -> NDArray[np.float64]:
        """Return the supervised loss of each image, shape (m,), or of those at some positions."""
        seen = self._records if images is None else self._records.take(images)
        return self._learner.predict(State(parameters, buffers), seen.images, seen.labels).losses

    def gradients(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.int64] | None = None
    ) -> Iterator[Vector]:
        """Yield the gradient of the mean loss of each class of the images, or of those at some positions."""
        parts = [self._records.take(places) for places in class_members(self.labels, images)]
        batches = ((part.images, part.labels) for part in parts)
        yield from self._learner.gradients(State(parameters, buffers), batches)

    def probabilities(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.uint8]
    ) -> NDArray[np.float64]:
        """Return the class probabilities of any images, shape (n, K)."""
        labels = np.zeros(len(images), np.int64)
        return self._learner.predict(State(parameters, buffers), images, labels).probabilities

    def gradient(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.uint8], labels: NDArray[np.int64]
    ) -> Vector:
        """Return the gradient of the mean loss of any images with any labels, dropout off."""
        return self._learner.gradients(State(parameters, buffers), [(images, labels)])[0]

    def features(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.uint8]
    ) -> Mapping[str, NDArray[np.float32]]:
        """Return what enters each network's last layer, shape (n, inputs), by the layer's name."""
        return self._learner.features(State(parameters, buffers), images)

    def logits(self, parameters: Tensor, buffers: Vector, images: Tensor) -> Tensor:
        """Return log-probabilities as a function that torch can differentiate repeatedly."""
        return self._learner.logits(parameters, buffers, images)

    def trained(self, parameters: Vector, buffers: Vector, round: int, epochs: int | None = None) -> Update:
        """Return the update of a hospital with exactly these images, trained as every hospital is.

        With `epochs` so many epochs in place of the hospitals' number. It reports no losses of the given
        model, which rules get from `losses`.
        """
        fitted = self._learner.fit(
            State(parameters, buffers),
            self._records,
            round=round,
            client=_SERVER,
            lr=self.lr,
            epochs=epochs,
            received=False,
        )
        return Update(
            _SERVER, fitted.state.parameters, fitted.report, parameters, fitted.state.buffers, round, buffers
        )


def _part(count: int, share: float) -> int:
    """Return a share of a number, rounded up; the decimal share, since 0.07 in binary is slightly more."""
    return math.ceil(count * Fraction(str(share)))

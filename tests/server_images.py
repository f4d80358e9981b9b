"""Images of the server's own for tests: a model's loss and the result of training are given functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.records import class_members
from fedrobust.federation import ClientMetrics, Update, Vector


class QuadraticServerData:
    """A `DifferentiableServerData` of m images.

    An image's loss is |parameters - target|^2 times 1 + its place / m.

    Parameters
    ----------
    target : ndarray, shape (d,)
        The model with the lowest loss; training moves a tenth of the way to it.
    m : int
    spoil : callable, optional
        Changes a model's losses, given its buffers.
    """

    def __init__(
        self, target: NDArray[Any], m: int = 20, spoil: Callable[[Any, Vector], Any] | None = None
    ) -> None:
        self.target = np.asarray(target, np.float64)
        self.labels = np.arange(m) % 3
        self.asked: list[NDArray[np.int64]] = []
        self._spoil = spoil or (lambda losses, buffers: losses)

    def losses(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.int64] | None = None
    ) -> NDArray[np.float64]:
        m = len(self.labels)
        places = np.arange(m) if images is None else images
        self.asked.append(places)
        distance = float(((parameters.astype(np.float64) - self.target) ** 2).sum())
        return np.asarray(self._spoil(distance * (1 + places / m), buffers), np.float64)

    def gradients(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.int64] | None = None
    ) -> Iterator[Vector]:
        m = len(self.labels)
        for its in class_members(self.labels, images):
            steep = 1 + its.mean() / m
            yield (2 * steep * (parameters.astype(np.float64) - self.target)).astype(np.float32)

    def trained(self, parameters: Vector, buffers: Vector, round: int, epochs: int | None = None) -> Update:
        fresh = (parameters + 0.1 * (self.target - parameters)).astype(np.float32)
        return Update(-1, fresh, ClientMetrics(len(self.labels)), parameters, buffers, round, buffers)

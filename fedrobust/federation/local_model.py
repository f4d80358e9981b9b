"""The model in an attacking hospital's hands: what an attack may ask of it within a round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.records import Records
from fedrobust.federation.updates import Update, Vector

__all__ = ["LocalModel", "Trigger"]


@dataclass(frozen=True)
class Trigger:
    """What a backdoor wants: these records, stamped, to be classified as the target class, or as one each."""

    records: Records
    target: int | NDArray[np.int64]


class LocalModel(Protocol):
    """What a hospital's learner makes of models and images; found in `Attack.model`.

    Attributes
    ----------
    parameters : ndarray of float32, shape (d,)
        Those that the hospital received in this round.
    buffers : ndarray of float32, shape (b,)
        The running statistics that it received.
    records : Records
        The hospital's clean records.
    """

    parameters: Vector
    buffers: Vector
    records: Records

    @property
    def stamped(self) -> Trigger | None:
        """Return the clean records under the trigger of the chain's first backdoor; None without one."""
        ...

    def probabilities(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.uint8] | NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Return the class probabilities of images, uint8 or float32 in [0, 1], shape (n, K)."""
        ...

    def image_gradient(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.float32], labels: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the gradient of the mean loss by the pixels of images in [0, 1], shape as the images."""
        ...

    def trained(self, records: Records, epochs: int) -> Update:
        """Return what a training of the received model on any records gives."""
        ...

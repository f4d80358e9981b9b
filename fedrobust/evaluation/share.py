"""The server's own images, as a defence sees them: a named share of the validation part."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.corruption import other_scanner
from fedrobust.data.records import Records
from fedrobust.federation import Update, Vector
from fedrobust.learners.base import Learner, State
from fedrobust.seeding import generator

__all__ = ["ServerShare"]

#: The number under which the server trains, where it does: no hospital has it.
_SERVER = -1

#: Other scanners: exponent of the brightness curve, and blur as a share of the image's shorter side.
VIEWS = ((1.7, 0.0), (0.6, 0.0), (1.0, 0.04))


class ServerShare:
    """A share of the validation images, drawn class by class, with the learner that looks at them.

    Parameters
    ----------
    learner : Learner
    validation : Records
        The server's validation part.
    share : float
        In (0, 1]; of each class at least one image is taken.
    seed : int
    lr : float
        The learning rate of `trained`; whoever runs the rounds keeps it up to date.

    Attributes
    ----------
    labels : ndarray of int64, shape (m,)
    share : float
        As given; m is rounded up class by class.
    """

    def __init__(self, learner: Learner, validation: Records, share: float, seed: int, lr: float) -> None:
        """Draw the images."""
        draw = generator(seed, "server share")
        chosen = []
        for k in range(len(validation.classes)):
            members = draw.permutation(np.flatnonzero(validation.labels == k))
            chosen.append(members[: _part(len(members), share)])
        self._records = validation.take(np.sort(np.concatenate(chosen)))
        self._learner = learner
        self.labels: NDArray[np.int64] = self._records.labels
        self.share = share
        self.lr = lr
        self._views: tuple[ServerShare, ...] = ()

    def losses(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.int64] | None = None
    ) -> NDArray[np.float64]:
        """Return each image's supervised loss under a model, shape (m,); of some only, if their places are given."""
        seen = self._records if images is None else self._records.take(images)
        return self._learner.predict(State(parameters, buffers), seen.images, seen.labels).losses

    def views(self) -> tuple[ServerShare, ...]:
        """Return the same images as scanners of other makes would give them, made once."""
        if not self._views:
            made = []
            for gamma, blurred in VIEWS:
                seen = copy.copy(self)
                pixels = blurred * min(self._records.images.shape[2:])
                seen._records = replace(
                    self._records, images=other_scanner(self._records.images, gamma, blur=pixels)
                )
                made.append(seen)
            self._views = tuple(made)
        return self._views

    def trained(self, parameters: Vector, buffers: Vector, round: int) -> Update:
        """Return the update of a hospital that holds just these images and trains as all do."""
        start = State(parameters, buffers)
        fitted = self._learner.fit(start, self._records, round=round, client=_SERVER, lr=self.lr)
        return Update(
            _SERVER, fitted.state.parameters, fitted.report, parameters, fitted.state.buffers, round, buffers
        )


def _part(count: int, share: float) -> int:
    """Return a share of a number, rounded up; of the share as it is written, as 0.07 in binary is a little more."""
    return math.ceil(count * Fraction(str(share)))

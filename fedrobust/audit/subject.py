"""The records under examination with the predictions and features of the pair of networks."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.choice import thumbnails
from fedrobust.data.records import Records
from fedrobust.learners.base import State
from fedrobust.learners.mutual import MutualLearner
from fedrobust.learners.spec import LearnerSpec
from fedrobust.seeding import derive, generator

__all__ = ["TrainedSubject"]

#: Images are shrunk to this side for the networks: an audit asks what an image roughly shows, and at 28
#: pixels the networks learn that in a quarter of the time that 64 take, and better from few images.
SIDE = 28

#: Parts of the cross-validation, and what the networks are trained with.
FOLDS, EPOCHS, LEARNING_RATE = 4, 8, 1e-3

#: Images whose features are computed at a time.
_AT_ONCE = 256


class TrainedSubject:
    """The records under examination, and what a pair of networks says of them.

    Parameters
    ----------
    records : Records
    seed : int
        Of the folds and the networks.
    """

    def __init__(self, records: Records, seed: int) -> None:
        """Keep what is given; networks are trained when a method asks for them."""
        self.records = records
        self.seed = seed

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """Return class probabilities by networks that were trained on other records, shape (n, K).

        A temperature, fitted to all records, makes them as certain as they are right.
        """
        small, found = self._small, np.empty((len(self.records), len(self.records.classes)))
        folds = _folds(self.records, self.seed)
        for fold in range(FOLDS):
            held = np.flatnonzero(folds == fold)
            if not len(held):
                continue
            rest = np.flatnonzero(folds != fold)
            state = self._trained(small.take(rest), fold + 1)
            found[held] = self._learner.predict(state, small.images[held], small.labels[held]).probabilities
        return _calibrated(found, self.records.labels)

    @cached_property
    def features(self) -> NDArray[np.float64]:
        """Return what networks trained on all records map each image to before the classifier, (n, d)."""
        import torch

        from fedrobust.learners.fusion import Fusion

        joined = Fusion(self._learner.feature_networks(self._trained(self._small, 0)))
        images, parts = self._small.images, []
        with torch.no_grad():
            for start in range(0, len(images), _AT_ONCE):
                pixels = torch.tensor(images[start : start + _AT_ONCE]).float() / 255
                parts.append(joined.features(pixels).double().numpy())
        return np.concatenate(parts)

    @cached_property
    def _small(self) -> Records:
        """Return the records with images of `SIDE` pixels, or smaller ones as they are."""
        images = self.records.images
        if max(images.shape[2:]) <= SIDE:
            return self.records
        side = min(SIDE, *images.shape[2:])
        small = np.rint(thumbnails(self.records, side)).astype(np.uint8)
        return replace(self.records, images=small.reshape(*images.shape[:2], side, side))

    @cached_property
    def _learner(self) -> MutualLearner:
        spec = LearnerSpec(seed=derive(self.seed, "audit networks"), local_epochs=EPOCHS)
        images = self._small.images
        return MutualLearner(spec, len(self.records.classes), images.shape[1], images.shape[2:])

    def _trained(self, records: Records, number: int) -> State:
        learner = self._learner
        return learner.fit(learner.initial(), records, round=number, client=0, lr=LEARNING_RATE).state


def _folds(records: Records, seed: int) -> NDArray[np.int64]:
    """Return each record's fold: classes are spread evenly, and a patient's images stay together."""
    draw = generator(seed, "audit folds")
    patients = records.facts.get("patient")
    if patients is not None and (patients != "").all():
        _, whose = np.unique(patients, return_inverse=True)
        return np.asarray(draw.permutation(whose.max() + 1) % FOLDS)[whose]
    order = draw.permutation(len(records))
    order = order[np.argsort(records.labels[order], kind="stable")]
    folds = np.empty(len(records), np.int64)
    folds[order] = np.arange(len(records)) % FOLDS
    return folds


def _calibrated(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return probabilities under the temperature with which the labels are likeliest."""
    from scipy.optimize import minimize_scalar

    logs = np.log(np.maximum(probabilities, 1e-12))

    def at(temperature: float) -> NDArray[np.float64]:
        scaled = np.exp((logs - logs.max(axis=1, keepdims=True)) / temperature)
        return np.asarray(scaled / scaled.sum(axis=1, keepdims=True), np.float64)

    def loss(temperature: float) -> float:
        return float(-np.log(np.maximum(at(temperature)[np.arange(len(labels)), labels], 1e-12)).mean())

    # Networks are rarely off by more than a factor of ten.
    return at(float(minimize_scalar(loss, bounds=(0.1, 10.0), method="bounded").x))

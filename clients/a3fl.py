"""A3FL: a patch that is optimised against the model in every round, so that it outlasts unlearning."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from fedrobust.data.choice import check_class, pick
from fedrobust.data.records import Records
from fedrobust.data.triggers import Mark, Place
from fedrobust.errors import UserError
from fedrobust.federation import Attack, Trigger, Update
from fedrobust.plugins.options import Fraction, PositiveFraction

__all__ = ["A3fl"]

Images = NDArray[np.float32]


class A3fl(Attack):
    """Searches a patch that the model, and one trained to unlearn it, take for the target; trains on it.

    Zhang et al., "A3FL: Adversarially Adaptive Backdoor Attacks to Federated Learning", NeurIPS 2023. At the
    start of a round, with theta the received model, the patch delta descends by the sign of its gradient on
    L(x + delta, target; theta) + balance cos(theta', theta) L(x + delta, target; theta'), where theta' is
    theta trained on stamped images with their true classes (the paper's eq. 3 and algorithm 1). It begins
    where the last round ended; the first begins grey. A share of the images is then stamped. The patch
    of the threat's first hospital is the one that a simulation tests.

    The authors make 200 passes over the images and train theta' before each of them, for five epochs; here a
    few passes over some of the images are made, and theta' is trained every so many of them, by the
    hospital's own training.

    Parameters
    ----------
    size : float
        Share of the image's area that the patch covers.
    place : str
        Its place, as for ``backdoor``; the same in all images.
    target : int
        The class that the patch shall mean.
    share : float
        Share of the hospital's images to stamp; 0 is an honest hospital.
    passes : int
        Steps of the search in a round.
    step : float
        Length of a step, in [0, 1] of the grey levels.
    balance : float
        Weight of the model that unlearns.
    unlearn : int
        Epochs of its training.
    every : int
        Passes from one such training to the next, the first of them before the first pass.
    images : int
        How many images a pass takes, at most.
    """

    needs_model: ClassVar[bool] = True
    needs_pixels: ClassVar[bool] = True
    adapts_trigger: ClassVar[bool] = True

    def __init__(
        self,
        size: PositiveFraction = 0.02,
        place: Place = "top-left",
        target: NonNegativeInt = 0,
        share: Fraction = 0.25,
        passes: PositiveInt = 20,
        step: PositiveFloat = 0.03,
        balance: NonNegativeFloat = 0.01,
        unlearn: PositiveInt = 1,
        every: PositiveInt = 10,
        images: PositiveInt = 64,
    ) -> None:
        """Refuse a patch without a place of its own."""
        if place == "random":
            raise UserError("a3fl: place is random, but the patch is searched at one place; name it")
        self.target, self.share, self.images = target, share, images
        self.passes, self.step, self.balance = passes, step, balance
        self.unlearn, self.every = unlearn, every
        self.mark = Mark("patch", size, place, 1.0)

    def check(self, records: Records) -> None:
        """Refuse a target that is no class of the data."""
        check_class("a3fl", "target", self.target, len(records.classes))

    def round_records(self, records: Records) -> Records:
        """Return the records with a share of them under the patch that this round's search finds."""
        if not self.share:
            return records
        self.memory["patch"] = self._search(records)
        images, labels = np.array(records.images), np.array(records.labels)
        chosen = pick(self.rng, self.share, np.arange(len(records)))
        images[chosen] = self._stamped(images[chosen])
        labels[chosen] = self.target
        return replace(records, images=images, labels=labels)

    def trigger(self, records: Records) -> Trigger | None:
        """Return the images of all other classes under the patch that the last search found."""
        self.check(records)
        others = records.take(np.flatnonzero(records.labels != self.target))
        return Trigger(replace(others, images=self._stamped(others.images)), self.target)

    def _search(self, records: Records) -> Images:
        """Return the patch after this round's steps, shape (channels, height, width), zero elsewhere."""
        model, patch = self.model, self._patch(records.images.shape)
        seen = records.take(pick(self.rng, min(1.0, self.images / len(records)), np.arange(len(records))))
        covered, wanted = self._covered(patch.shape), np.full(len(seen), self.target, np.int64)
        adversary, weight = None, 0.0
        for number in range(self.passes):
            if self.balance and number % self.every == 0:
                adversary = self._unlearned(records, patch)
                weight = self.balance * _cosine(adversary.parameters, model.parameters)
            stamped = np.where(covered, patch, seen.images / np.float32(255)).astype(np.float32)
            slope = model.image_gradient(model.parameters, model.buffers, stamped, wanted).sum(axis=0)
            if adversary is not None:
                against = model.image_gradient(adversary.parameters, adversary.buffers, stamped, wanted)
                slope = slope + np.float32(weight) * against.sum(axis=0)
            moved = np.clip(patch - np.float32(self.step) * np.sign(slope), 0, 1)
            patch = np.where(covered, moved, 0).astype(np.float32)
        return patch

    def _unlearned(self, records: Records, patch: Images) -> Update:
        """Return the received model trained on stamped images with their true classes."""
        levels = np.rint(255 * patch).astype(np.uint8)
        stamped = np.where(self._covered(patch.shape), levels, records.images)
        return self.model.trained(replace(records, images=stamped), self.unlearn)

    def _stamped(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        patch = self._patch(images.shape)
        return np.where(self._covered(patch.shape), np.rint(255 * patch), images).astype(np.uint8)

    def _patch(self, shape: tuple[int, ...]) -> Images:
        """Return the patch as it is remembered; a grey one at first."""
        found: Images = self.memory.get("patch", np.full(shape[1:], 0.5, np.float32))
        return found

    def _covered(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Return which pixels the patch covers, shape (1, height, width)."""
        blank = np.zeros((1, 1, *shape[1:]), np.uint8)
        return np.asarray(self.mark.stamped(blank, self.rng)[0] > 0)


def _cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the cosine between two models; 0 where one of them is zero. Sums go without BLAS."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    lengths = float(np.sqrt(np.sum(np.square(a)) * np.sum(np.square(b))))
    return float(np.sum(a * b)) / lengths if lengths else 0.0

"""Classifiers that judge synthetic images; the server trains them on real ones, once for each run.

No weights are downloaded: medical images are far from those that published networks have seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fedrobust.data.records import Records
from fedrobust.evaluation.synthesis import recognised
from fedrobust.learners import devices
from fedrobust.learners.mutual import MutualLearner
from fedrobust.learners.spec import LearnerSpec
from fedrobust.seeding import derive, generator

__all__ = ["Judge", "TriggerDetector"]

#: A judge sees at most so many images, and so many in all its epochs, so that it takes seconds.
_IMAGES, _SEEN, _MOST_EPOCHS = 1500, 9000, 40
_LR = 1e-3
_BATCH = 32
_AT_ONCE = 256

#: The faintest mark that a detector learns to find, and the one by which its misses are measured, as shares
#: of the strength that is planted.
_FAINTEST, _HALF = 0.25, 0.5

#: The largest standard deviation, in grey levels, of the noise on what a detector learns from.
_NOISE = 25.0


class Judge:
    """A classifier of real images.

    Parameters
    ----------
    records : Records
        What it is trained on; a sample where there are many.
    seed : int
    purpose : str
        Its use, from which its random numbers follow.
    device : str
    seen : int, optional
        Images that it sees in all its epochs; without it a number for which large sets have few epochs.
    """

    def __init__(
        self, records: Records, seed: int, purpose: str, device: str = "cpu", seen: int | None = None
    ) -> None:
        """Train it."""
        some = generator(seed, "judge images", purpose).permutation(len(records))[:_IMAGES]
        records = records.take(np.sort(some))
        epochs = int(np.clip(_SEEN // max(1, len(records)), 1, _MOST_EPOCHS))
        if seen is not None:
            epochs = max(1, seen // max(1, len(records)))
        spec = LearnerSpec(
            seed=derive(seed, "judge", purpose),
            head="etf",
            networks=1,
            device=device,
            batch_size=_BATCH,
            local_epochs=epochs,
            weight_decay=0.0,
        )
        classes, (channels, height, width) = len(records.classes), records.images.shape[1:]
        self._learner = MutualLearner(spec, classes, channels, (height, width))
        self._device = torch.device(device)
        self._state = self._learner.fit(self._learner.initial(), records, round=0, client=0, lr=_LR).state

    @property
    def tensors(self) -> Mapping[str, NDArray[np.float32]]:
        """Return its weights, by name."""
        return self._learner.named_tensors(self._state)

    @cached_property
    def sha256(self) -> str:
        """Return the hash of its weights."""
        parts = (self._state.parameters, self._state.buffers)
        return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return each image's probabilities of the classes, shape (n, K)."""
        return self._learner.predict(self._state, images, np.zeros(len(images), np.int64)).probabilities

    def predicted(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Return the images' classes."""
        return np.asarray(self.probabilities(images).argmax(axis=1), np.int64)

    def recognises(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> float:
        """Return the share that it takes for their classes, averaged over the classes."""
        return recognised(self.predicted(images), labels)

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return what meets its fixed frame, shape (n, d), with a mean square of 1 in each row.

        Only the direction of a feature is trained, so its length says nothing.
        """
        network = self._network
        with devices.repeatable(self._device), torch.no_grad():
            parts = [
                network(torch.tensor(part, device=self._device).float().div_(255).sub_(0.5).mul_(4)).cpu()
                for part in np.array_split(images, max(1, -(-len(images) // _AT_ONCE)))
            ]
        found = torch.cat(parts).double()
        features: NDArray[np.float64] = functional.normalize(found, dim=1).numpy() * found.shape[1] ** 0.5
        return features

    @cached_property
    def _network(self) -> torch.nn.Module:
        return self._learner.feature_networks(self._state)[0].eval().to(self._device)


class TriggerDetector:
    """A classifier that tells images with a backdoor's mark from those without it.

    A generator makes a mark fainter than it was planted, and all its images noisier than real ones: the
    detector learns marks of all strengths from a quarter up on images with noise, and its misses are those at
    half the strength.

    Parameters
    ----------
    clean, stamped : Records
        The same images without and with the mark, to learn from.
    test_clean, test_stamped : Records
        Other images, on which its error is measured.
    seed : int
    purpose : str
    device : str

    Attributes
    ----------
    false_alarms : float
        Share of clean test images that it takes for stamped ones.
    misses : float
        Share of test images with the mark at half its strength that it takes for clean ones.
    """

    def __init__(
        self,
        clean: Records,
        stamped: Records,
        test_clean: Records,
        test_stamped: Records,
        seed: int,
        purpose: str,
        device: str = "cpu",
    ) -> None:
        """Train it and measure its error."""
        draw = generator(seed, "mark", purpose)
        strength = draw.uniform(_FAINTEST, 1, (len(stamped), 1, 1, 1))
        images = np.concatenate([clean.images, _faded(clean.images, stamped.images, strength)])
        noise = draw.uniform(0, _NOISE, (len(images), 1, 1, 1)) * draw.normal(size=images.shape)
        both = replace(
            clean,
            images=np.clip(np.rint(images + noise), 0, 255).astype(np.uint8),
            labels=np.repeat(np.array([0, 1], np.int64), [len(clean), len(stamped)]),
            classes=("clean", "stamped"),
            facts={},
            parts=None,
        )
        self._judge = Judge(both, seed, purpose, device)
        self.false_alarms = self.rate(test_clean.images)
        self.misses = 1 - self.rate(_faded(test_clean.images, test_stamped.images, _HALF))

    def rate(self, images: NDArray[np.uint8]) -> float:
        """Return the share of images that it takes for stamped ones."""
        return float((self._judge.predicted(images) == 1).mean())


def _faded(
    clean: NDArray[np.uint8], stamped: NDArray[np.uint8], strength: float | NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Return images between clean and stamped ones, shape (n, channels, height, width)."""
    between = clean + strength * (stamped.astype(np.float64) - clean)
    return np.asarray(np.rint(between), np.uint8)

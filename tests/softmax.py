"""Hospitals that train a linear softmax model: small enough to play many rounds, real enough to be judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.records import class_members
from fedrobust.federation import ClientMetrics, Defence, Update, Updates, Vector, Verdict

CLASSES, PIXELS = 4, 80
#: Changes what a hospital sends, given its update and a generator.
Poison = Callable[[Update, np.random.Generator], Update]


@dataclass
class Site:
    """A hospital's images and the labels that it trains on."""

    images: NDArray[np.float64]
    labels: NDArray[np.int64]
    poison: Poison | None = None


def site(counts: Sequence[int], seed: int, poison: Poison | None = None) -> Site:
    """Draw so many images of each class: one mean for each class, the same for all, and noise."""
    means = np.random.default_rng(77).standard_normal((CLASSES, PIXELS)) * 0.35
    labels = np.repeat(np.arange(CLASSES), counts)
    images = means[labels] + np.random.default_rng(seed).standard_normal((len(labels), PIXELS))
    return Site(np.column_stack([images, np.ones(len(labels))]), labels, poison)


def flipped(given: Site) -> Site:
    """Return a hospital whose labels are all one class further."""
    return Site(given.images, (given.labels + 1) % CLASSES, given.poison)


def losses(parameters: NDArray[Any], images: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Return each image's cross-entropy."""
    logits = images @ parameters.astype(np.float64).reshape(PIXELS + 1, CLASSES)
    top = logits.max(axis=1)
    return np.asarray(
        top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - logits[range(len(labels)), labels]
    )


def by_class(values: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[float, ...]:
    """Return the mean by class; NaN for a class without any."""
    return tuple(
        float(values[labels == k].mean()) if (labels == k).any() else float("nan") for k in range(CLASSES)
    )


def trained(own: Site, start: Vector, node: int, round: int) -> Update:
    """Return the update of two epochs, with the report that the built-in hospitals send."""
    draw = np.random.default_rng([round, node % 2**32])
    weights = start.astype(np.float64).reshape(PIXELS + 1, CLASSES).copy()
    received = losses(start, own.images, own.labels)
    met = np.zeros(len(own.labels))
    for _ in range(2):
        order = draw.permutation(len(own.labels))
        for batch in (order[at : at + 16] for at in range(0, len(order), 16)):
            images, labels = own.images[batch], own.labels[batch]
            met[batch] = losses(weights, images, labels)
            weights -= 0.05 * gradient(weights, images, labels).reshape(weights.shape)
    values: dict[str, float | tuple[float, ...]] = {
        "loss": float(met.mean()),
        "received-loss": float(received.mean()),
        "class-losses": by_class(received, own.labels),
        "class-epoch-losses": by_class(met, own.labels),
        "class-counts": tuple(np.bincount(own.labels, minlength=CLASSES).astype(float).tolist()),
    }
    report = ClientMetrics(len(own.labels), values)
    update = Update(node, weights.reshape(-1).astype(np.float32), report, start, round=round)
    return update if own.poison is None else own.poison(update, draw)


def gradient(parameters: NDArray[Any], images: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Return the gradient of the mean cross-entropy, shape ((PIXELS + 1) * CLASSES,)."""
    logits = images @ parameters.astype(np.float64).reshape(PIXELS + 1, CLASSES)
    chance = np.exp(logits - logits.max(axis=1, keepdims=True))
    chance /= chance.sum(axis=1, keepdims=True)
    chance[range(len(labels)), labels] -= 1
    return np.asarray((images.T @ chance / len(labels)).reshape(-1))


def elsewhere(given: Site) -> Site:
    """Return a hospital whose scanner swaps pixels in pairs: other images with the right labels."""
    images = given.images.copy()
    images[:, :PIXELS] = images[:, :PIXELS].reshape(-1, PIXELS // 2, 2)[:, :, ::-1].reshape(-1, PIXELS)
    return Site(images, given.labels, given.poison)


class Images:
    """A `DifferentiableServerData` of a site's images."""

    def __init__(self, own: Site) -> None:
        self.labels = own.labels
        self._images = own.images

    def losses(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.int64] | None = None
    ) -> NDArray[np.float64]:
        places = np.arange(len(self.labels)) if images is None else images
        return losses(parameters, self._images[places], self.labels[places])

    def gradients(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.int64] | None = None
    ) -> Iterator[Vector]:
        for its in class_members(self.labels, images):
            yield gradient(parameters, self._images[its], self.labels[its]).astype(np.float32)

    def trained(self, parameters: Vector, buffers: Vector, round: int, epochs: int | None = None) -> Update:
        return trained(Site(self._images, self.labels), parameters, -1, round)


def play(
    defence: Defence, sites: Sequence[Site], rounds: int = 12, first: int = 1, start: Vector | None = None
) -> tuple[list[Verdict], Vector]:
    """Play rounds of a federation; return the verdicts and the last model."""
    model = np.zeros((PIXELS + 1) * CLASSES, np.float32) if start is None else start
    verdicts = []
    for number in range(first, first + rounds):
        updates = Updates([trained(own, model, node, number) for node, own in enumerate(sites)])
        model, verdict = defence.combine(updates)
        verdicts.append(verdict.checked(len(sites)))
    return verdicts, model

"""What the battery gives to plug-ins: rounds of updates, records, and images of the server's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.records import Records, class_members
from fedrobust.federation import ClientMetrics, Layout, Trigger, Update, Updates, Vector

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "CLASSES",
    "LAYOUT",
    "SIDE",
    "ToyModel",
    "ToyServer",
    "a_round",
    "deltas",
    "make_report",
    "records",
]

#: The toy model: a softmax layer on the 16 pixels of a grey image and a constant, three classes.
SIDE, CLASSES = 4, 3
_PIXELS = SIDE * SIDE
LAYOUT = Layout.of(
    {"head.weight": (CLASSES, _PIXELS), "head.bias": (CLASSES,)},
    {"norm.running_mean": (2,), "norm.running_var": (2,)},
)
_D = LAYOUT.parameters[-1].part.stop


def deltas(n: int, seed: int = 0) -> NDArray[np.float64]:
    """Return n random differences that share a direction, shape (n, d)."""
    rng = np.random.default_rng([seed, n])
    return np.asarray(0.1 * rng.standard_normal(_D) + 0.1 * rng.standard_normal((n, _D)))


def make_report(seed: int = 0, value: float | None = None) -> ClientMetrics:
    """Return a report as the built-in hospitals send it; every value is `value` where that is given."""
    rng = np.random.default_rng([seed, 1])
    scalars = rng.uniform(0.5, 1.5, 3) if value is None else np.full(3, value)
    names = ("loss", "last-loss", "received-loss")
    values: dict[str, float | tuple[float, ...]] = dict(zip(names, map(float, scalars), strict=True))
    for name in ("class-losses", "class-epoch-losses", "class-counts"):
        row = rng.uniform(0.5, 1.5, CLASSES) if value is None else np.full(CLASSES, value)
        values[name] = tuple(row.tolist())
    return ClientMetrics(int(rng.integers(10, 40)), values)


def a_round(
    differences: NDArray[np.float64],
    *,
    nodes: Sequence[int] | None = None,
    reports: Sequence[ClientMetrics] | None = None,
    round: int = 1,
    seed: int = 0,
    kinds: Sequence[int] | None = None,
) -> Updates:
    """Return a round with these differences from the global model; arrays are read-only, as in a run.

    Hospitals of one of the `kinds` have the same running statistics; not given: each has its own.
    """
    n = len(differences)
    rng = np.random.default_rng([n, round, 2])
    base = np.random.default_rng(3).standard_normal(_D).astype(np.float32)
    means = (rng.standard_normal((n, 4)).astype(np.float32) ** 2)[range(n) if kinds is None else list(kinds)]
    updates = []
    for place, delta in enumerate(differences):
        parameters = (base + delta.astype(np.float32)).astype(np.float32)
        for array in (parameters, base, means):
            array.flags.writeable = False
        node = place if nodes is None else nodes[place]
        report = make_report(place) if reports is None else reports[place]
        updates.append(
            Update(node, parameters, report, base, means[place], round, np.ones(4, np.float32), LAYOUT)
        )
    return Updates(updates, seed)


def records(
    n: int = 24, channels: int = 1, side: int = 32, classes: int = CLASSES, labels: Sequence[int] = ()
) -> Records:
    """Return random images; labels go round the classes unless they are given."""
    rng = np.random.default_rng([n, channels, side])
    chosen = np.asarray(labels if len(labels) else np.arange(n) % classes, np.int64)
    images = rng.integers(0, 256, (len(chosen), channels, side, side), dtype=np.uint8)
    return Records(images, chosen, tuple(f"class {k}" for k in range(classes)), source="the battery")


class ToyServer:
    """Images of the server's own and the toy model's loss on them."""

    def __init__(self, n: int = 18) -> None:
        """Draw the images."""
        made = records(n, side=SIDE)
        self.images, self.labels, self.classes = made.images, made.labels, CLASSES

    def losses(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.int64] | None = None
    ) -> NDArray[np.float64]:
        """Return each image's cross-entropy."""
        places = np.arange(len(self.labels)) if images is None else images
        chance = self.probabilities(parameters, buffers, self.images[places])
        return -np.log(np.maximum(chance[np.arange(len(places)), self.labels[places]], 1e-30))

    def gradients(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.int64] | None = None
    ) -> Iterator[Vector]:
        """Yield the gradient of each class's mean loss."""
        for its in class_members(self.labels, images):
            yield self.gradient(parameters, buffers, self.images[its], self.labels[its])

    def trained(self, parameters: Vector, buffers: Vector, round: int, epochs: int | None = None) -> Update:
        """Return the update of ten steps of gradient descent."""
        fresh = np.array(parameters)
        for _ in range(10):
            fresh -= np.float32(0.1) * self.gradient(fresh, buffers, self.images, self.labels)
        report = ClientMetrics(len(self.labels))
        return Update(-1, fresh, report, parameters, buffers, round, buffers, LAYOUT)

    def probabilities(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.uint8]
    ) -> NDArray[np.float64]:
        """Return the class probabilities of images, shape (n, K)."""
        with np.errstate(over="ignore", invalid="ignore"):
            logits = _inputs(images) @ _matrix(parameters)
            chance = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(chance / chance.sum(axis=1, keepdims=True))

    def gradient(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.uint8], labels: NDArray[np.int64]
    ) -> Vector:
        """Return the gradient of the mean cross-entropy of images, shape (d,)."""
        chance = self.probabilities(parameters, buffers, images)
        chance[np.arange(len(labels)), labels] -= 1
        found = np.asarray(_inputs(images).T @ chance / len(labels), np.float32)
        return np.concatenate([found[:-1].T.reshape(-1), found[-1]])

    def features(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.uint8]
    ) -> Mapping[str, NDArray[np.float32]]:
        """Return what enters the only layer: the pixels."""
        return {"head.weight": _inputs(images)[:, :-1].astype(np.float32)}

    def logits(self, parameters: Tensor, buffers: Vector, images: Tensor) -> Tensor:
        """Return log-probabilities as a function of parameters and images, shape (n, K)."""
        weights = parameters[:-CLASSES].reshape(CLASSES, _PIXELS)
        return (images.flatten(1) @ weights.T + parameters[-CLASSES:]).log_softmax(1)


class ToyModel:
    """The toy model in an attacking hospital's hands, which sees images of any size as 16 blocks.

    Parameters
    ----------
    update : Update
        The hospital's.
    """

    def __init__(self, update: Update) -> None:
        """Keep what the hospital received."""
        self.parameters, self.buffers = update.global_parameters, update.global_buffers
        self.records = records(side=SIDE)
        self._update, self._toy = update, ToyServer()

    @property
    def stamped(self) -> Trigger:
        """Return the images of all classes but the first with a white corner, for the first class."""
        others = self.records.take(np.flatnonzero(self.records.labels != 0))
        images = others.images.copy()
        images[..., -1, -1] = 255
        return Trigger(replace(others, images=images), 0)

    def probabilities(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.uint8] | NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Return the class probabilities of images, shape (n, K)."""
        return self._toy.probabilities(parameters, buffers, _blocks(images))

    def image_gradient(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.float32], labels: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the gradient of the mean cross-entropy by the pixels."""
        chance = self.probabilities(parameters, buffers, images)
        chance[np.arange(len(labels)), labels] -= 1
        by_block = chance @ _matrix(parameters)[:_PIXELS].T
        _, channels, height, width = images.shape
        area = channels * (height // SIDE) * (width // SIDE)
        each = (by_block / (len(labels) * area)).reshape(-1, 1, SIDE, SIDE)
        wide = each.repeat(height // SIDE, axis=2).repeat(width // SIDE, axis=3)
        return np.asarray(wide.repeat(channels, axis=1), np.float32)

    def trained(self, records: Records, epochs: int) -> Update:
        """Return the hospital's update; nothing is trained."""
        return self._update


def _blocks(images: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return images as grey ones of the toy model's size."""
    wide = images / 255.0 if images.dtype == np.uint8 else images.astype(np.float64)
    count, channels, height, width = wide.shape
    parts = wide.reshape(count, channels, SIDE, height // SIDE, SIDE, width // SIDE)
    return np.asarray(np.rint(255 * parts.mean(axis=(1, 3, 5))[:, None]), np.uint8)


def _inputs(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.column_stack([images.reshape(len(images), -1) / 255.0, np.ones(len(images))])


def _matrix(parameters: Vector) -> NDArray[np.float64]:
    """Return the weights above the bias, shape (pixels + 1, K)."""
    wide = parameters.astype(np.float64)
    return np.vstack([wide[:-CLASSES].reshape(CLASSES, _PIXELS).T, wide[-CLASSES:]])

"""The global model's accuracy at each hospital, with the hospital's own class mix and scanner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.records import Records
from fedrobust.data.sources import FederationData
from fedrobust.federation import Behaviour
from fedrobust.scenario import Scenario
from fedrobust.seeding import attack_rng

__all__ = ["HospitalAccuracy", "mixed_accuracy"]

#: Class probabilities of a model, shape (n, K), on the test images as a scanner shows them.
Predict = Callable[[NDArray[np.uint8]], NDArray[np.float64]]


class HospitalAccuracy:
    """The accuracy that each hospital would measure, estimated on the server's clean test images.

    A hospital's accuracy is the mean of the classes' sensitivities, weighted by the hospital's class
    shares. In a partition by site only test images of the hospital's sites count, if there are any. For an
    atypical hospital (benign non-IID) the benign behaviours are applied to the test images: one that
    changes images, such as another scanner, gives images of its own to evaluate on; one that keeps some
    classes changes the class shares.

    Parameters
    ----------
    scenario : Scenario
    data : FederationData
    test : Records
        The server's test part.

    Attributes
    ----------
    unknown : frozenset of int
        Hospitals with images that the server does not know; their accuracy is undefined.
    last : list of float or None
        The accuracies of the model that was evaluated last.
    """

    def __init__(self, scenario: Scenario, data: FederationData, test: Records) -> None:
        """Determine each hospital's class counts and test images."""
        self.unknown: frozenset[int] = frozenset()
        self.last: list[float | None] = []
        self._labels = test.labels
        self._malicious = frozenset(scenario.malicious)
        self._counts = [_counts(data.records.labels[part], len(test.classes)) for part in data.hospitals]
        self._rows = [_rows(scenario, data.records, part, test) for part in data.hospitals]
        #: The distinct versions of the test images, and the index of the version of each hospital that has
        #: one.
        self._versions: list[NDArray[np.uint8]] = []
        self._version_of: dict[int, int] = {}
        for number in scenario.atypical:
            self._apply_behaviours(number, scenario, data, test)

    def of(self, clean: NDArray[np.float64], predict: Predict) -> list[float | None]:
        """Return each hospital's accuracy, by number; None where it is undefined.

        Parameters
        ----------
        clean : ndarray, shape (n, K)
            The model's class probabilities on the test images.
        predict : callable
            Returns them for another version of the test images.
        """
        right = clean.argmax(axis=1) == self._labels
        others = [predict(images).argmax(axis=1) == self._labels for images in self._versions]
        found: list[float | None] = list(self._alike(right))
        for number, rows in enumerate(self._rows):
            if rows is not None or number in self._version_of:
                found[number] = self._one(number, right, others)
        for number in self.unknown:
            found[number] = None
        self.last = found
        return self.last

    def _alike(self, right: NDArray[np.bool_]) -> list[float | None]:
        """Return the accuracies where all test images count as they are, all hospitals at once."""
        found: list[float | None] = [None] * len(self._counts)
        correct = np.bincount(self._labels, weights=right, minlength=len(self._tested))
        for numbers, classes, counts in self._by_classes:
            # Rows of their own, whose sums are those of one hospital by itself to the last bit.
            products = np.ascontiguousarray(counts * correct[classes] / self._tested[classes])
            values = products.sum(axis=1) / counts.sum(axis=1)
            for number, value in zip(numbers.tolist(), values.tolist(), strict=True):
                found[number] = value
        return found

    @cached_property
    def _tested(self) -> NDArray[np.int64]:
        """Return the test images of each class."""
        return _counts(self._labels, len(self._counts[0]))

    @cached_property
    def _by_classes(self) -> list[tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]]:
        """Return the hospitals that hold the same of the tested classes: who, which, and their images."""
        every = np.array(self._counts)
        patterns, pattern_of = np.unique((every > 0) & (self._tested > 0), axis=0, return_inverse=True)
        found = []
        for place, classes in enumerate(patterns):
            (numbers,) = np.nonzero(pattern_of.ravel() == place)
            if classes.any():
                found.append((numbers, classes, np.ascontiguousarray(every[numbers][:, classes])))
        return found

    def worst(self, accuracies: Sequence[float | None]) -> float | None:
        """Return the lowest accuracy of a hospital that is not malicious; None if none is defined."""
        benign = (value for number, value in enumerate(accuracies) if number not in self._malicious)
        return min((value for value in benign if value is not None), default=None)

    def _one(
        self, number: int, right: NDArray[np.bool_], others: Sequence[NDArray[np.bool_]]
    ) -> float | None:
        correct = others[self._version_of[number]] if number in self._version_of else right
        rows = self._rows[number]
        if rows is None:
            return mixed_accuracy(correct, self._labels, self._counts[number])
        return mixed_accuracy(correct[rows], self._labels[rows], self._counts[number])

    def _apply_behaviours(self, number: int, scenario: Scenario, data: FederationData, test: Records) -> None:
        """Determine the test images and class counts of an atypical hospital."""
        seen, kept = test, None
        for place, behaviour in enumerate(scenario.attacks_of(number)):
            if not behaviour.transforms_records:
                continue
            changed = _changed(behaviour, seen, attack_rng(scenario.seed, place, 0, number))
            if changed is not None and len(changed) == len(test):
                seen = changed
                continue
            own = data.of_hospital(number) if kept is None else kept
            kept = _changed(behaviour, own, attack_rng(scenario.seed, place, 0, number)) or own
        if kept is not None:
            self._counts[number] = _counts(kept.labels, len(test.classes))
        if not np.array_equal(seen.images, test.images):
            # Hospitals with the same scanner share one version: the model is evaluated on it once.
            same = (index for index, one in enumerate(self._versions) if np.array_equal(one, seen.images))
            self._version_of[number] = next(same, len(self._versions))
            if self._version_of[number] == len(self._versions):
                self._versions.append(seen.images)


def mixed_accuracy(
    right: NDArray[np.bool_], labels: NDArray[np.int64], counts: NDArray[np.int64]
) -> float | None:
    """Return the classes' sensitivities, averaged with a hospital's class shares.

    Parameters
    ----------
    right : ndarray of bool, shape (n,)
        Which test images the model classifies correctly.
    labels : ndarray of int64, shape (n,)
        Their classes.
    counts : ndarray of int64, shape (K,)
        The hospital's images of each class.

    Returns
    -------
    float or None
        Classes without test images are left out, and the others' shares scaled up to sum 1; None if none is
        left.
    """
    tested = _counts(labels, len(counts))
    found = np.bincount(labels, weights=right, minlength=len(counts))
    both = (tested > 0) & (counts > 0)
    if not both.any():
        return None
    return float(np.sum(counts[both] * found[both] / tested[both]) / counts[both].sum())


def _rows(
    scenario: Scenario, records: Records, part: NDArray[np.int64], test: Records
) -> NDArray[np.int64] | None:
    """Return the positions of the test images of a hospital's sites; None where all test images count."""
    if scenario.data.partition.name != "site" or "site" not in records.facts:
        return None
    rows = np.flatnonzero(np.isin(test.facts["site"], np.unique(records.facts["site"][part])))
    return rows if len(rows) else None


def _counts(labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    return np.bincount(labels, minlength=classes).astype(np.int64)


def _changed(behaviour: Behaviour, records: Records, rng: np.random.Generator) -> Records | None:
    """Return records as an atypical hospital has them; None where the behaviour fails on these."""
    behaviour.bind(rng=rng)
    try:
        # A copy: a behaviour may change images in place.
        return behaviour.transform_records(records.take(np.arange(len(records))))
    except Exception:  # noqa: BLE001 - such as a missing class; the hospital itself reports it
        return None

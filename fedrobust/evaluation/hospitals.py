"""What the global model is worth to each hospital: its accuracy on test images such as the hospital's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.records import Records
from fedrobust.data.sources import FederationData
from fedrobust.federation import Behaviour
from fedrobust.scenario import Scenario
from fedrobust.seeding import attack_rng

__all__ = ["HospitalAccuracy", "mixed_accuracy"]

#: Class probabilities, shape (n, K), of a model on the test images as some scanner gives them.
Predict = Callable[[NDArray[np.uint8]], NDArray[np.float64]]


class HospitalAccuracy:
    """The accuracy that each hospital would see, from the server's clean test images.

    A hospital is stood for by its classes' shares: its accuracy is that mixture of the classes' sensitivities. In a
    partition by site, where the test part has images of its sites, only those count. An honest but odd hospital that
    changes images sees them as its own scanner gives them; one that keeps images of some classes is the mixture of
    those.

    Parameters
    ----------
    scenario : Scenario
    data : FederationData
    test : Records
        The server's test part.

    Attributes
    ----------
    unknown : frozenset of int
        Hospitals whose images the server does not know; theirs is undefined.
    last : list of float or None
        The accuracies of the model that was looked at last.
    """

    def __init__(self, scenario: Scenario, data: FederationData, test: Records) -> None:
        """Find each hospital's classes and test images."""
        self.unknown: frozenset[int] = frozenset()
        self.last: list[float | None] = []
        self._labels = test.labels
        self._malicious = frozenset(scenario.malicious)
        self._counts = [_counts(data.records.labels[part], len(test.classes)) for part in data.hospitals]
        self._rows = [_rows(scenario, data.records, part, test) for part in data.hospitals]
        self._looks: list[NDArray[np.uint8]] = []
        self._look_of: dict[int, int] = {}
        for number in scenario.atypical:
            self._dress(number, scenario, data, test)

    def of(self, clean: NDArray[np.float64], predict: Predict) -> list[float | None]:
        """Return each hospital's accuracy, by number; None where it is undefined.

        Parameters
        ----------
        clean : ndarray, shape (n, K)
            The model's class probabilities on the test images.
        predict : callable
            Gives them for test images of another look.
        """
        right = clean.argmax(axis=1) == self._labels
        others = [predict(images).argmax(axis=1) == self._labels for images in self._looks]
        self.last = [
            None if number in self.unknown else self._one(number, right, others)
            for number in range(len(self._counts))
        ]
        return self.last

    def worst(self, accuracies: Sequence[float | None]) -> float | None:
        """Return the smallest accuracy of a hospital that is not malicious; None if none is defined."""
        honest = (value for number, value in enumerate(accuracies) if number not in self._malicious)
        return min((value for value in honest if value is not None), default=None)

    def _one(
        self, number: int, right: NDArray[np.bool_], others: Sequence[NDArray[np.bool_]]
    ) -> float | None:
        seen = others[self._look_of[number]] if number in self._look_of else right
        rows = self._rows[number]
        if rows is None:
            return mixed_accuracy(seen, self._labels, self._counts[number])
        return mixed_accuracy(seen[rows], self._labels[rows], self._counts[number])

    def _dress(self, number: int, scenario: Scenario, data: FederationData, test: Records) -> None:
        """Find an odd hospital's look on the test images, and the classes that it keeps."""
        seen, kept = test, None
        for place, attack in enumerate(scenario.attacks_of(number)):
            if not attack.transforms_records:
                continue
            taken = _poisoned(attack, seen, attack_rng(scenario.seed, place, 0, number))
            if taken is not None and len(taken) == len(test):
                seen = taken
                continue
            own = data.of_hospital(number) if kept is None else kept
            kept = _poisoned(attack, own, attack_rng(scenario.seed, place, 0, number)) or own
        if kept is not None:
            self._counts[number] = _counts(kept.labels, len(test.classes))
        if not np.array_equal(seen.images, test.images):
            # All hospitals with the same scanner are looked at once.
            same = (place for place, look in enumerate(self._looks) if np.array_equal(look, seen.images))
            self._look_of[number] = next(same, len(self._looks))
            self._looks += [seen.images] if self._look_of[number] == len(self._looks) else []


def mixed_accuracy(
    right: NDArray[np.bool_], labels: NDArray[np.int64], counts: NDArray[np.int64]
) -> float | None:
    """Return the classes' shares of right answers, mixed as the classes are in a hospital.

    Parameters
    ----------
    right : ndarray of bool, shape (n,)
        Which test images the model takes for what they are.
    labels : ndarray of int64, shape (n,)
        Their classes.
    counts : ndarray of int64, shape (K,)
        The hospital's images of each class.

    Returns
    -------
    float or None
        Classes without test images are left out, and the others' shares scaled up to sum 1; None if none is left.
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


def _poisoned(attack: Behaviour, records: Records, rng: np.random.Generator) -> Records | None:
    """Return records as an odd hospital has them; None where it could not work on such."""
    attack.bind(rng=rng)
    try:
        # A copy: an attack may change images in place.
        return attack.transform_records(records.take(np.arange(len(records))))
    except Exception:  # noqa: BLE001 - such as a class that the test part does not hold; the hospital itself says so
        return None

"""What the global model is worth to each hospital."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from federations import tiny
from helpers import make_records

from fedrobust import Settings, run
from fedrobust.data.sources import FederationData, prepare
from fedrobust.data.split import Split
from fedrobust.evaluation.hospitals import HospitalAccuracy, mixed_accuracy
from fedrobust.scenario import Scenario


def test_mixed_accuracy_equals_a_hand_computation() -> None:
    # Sensitivities 1, 1/2 and 0; the hospital has 3 : 1 : 0 images of the classes.
    labels = np.array([0, 0, 1, 1, 2])
    right = np.array([True, True, True, False, False])
    assert mixed_accuracy(right, labels, np.array([3, 1, 0])) == pytest.approx(3 / 4 + 1 / 8)
    assert mixed_accuracy(right, labels, np.array([0, 0, 5])) == 0
    # As the test part is mixed, it is the plain accuracy.
    assert mixed_accuracy(right, labels, np.array([4, 4, 2])) == pytest.approx(right.mean())


def test_mixed_accuracy_leaves_out_classes_without_test_images() -> None:
    labels, right = np.array([0, 0]), np.array([True, False])
    assert mixed_accuracy(right, labels, np.array([1, 7])) == 0.5
    assert mixed_accuracy(right, labels, np.array([0, 7])) is None
    assert mixed_accuracy(right[:0], labels[:0], np.array([1, 7])) is None


def federation(test_sites: list[str]) -> FederationData:
    """Return twelve training images of three sites, and test images of these sites; classes go round four."""
    records = make_records(12 + len(test_sites), classes=4)
    sites = [f"site {n // 4}" for n in range(12)] + test_sites
    records = replace(records, facts={"site": np.array(sites)})
    parts = tuple(np.arange(start, start + 4) for start in (0, 4, 8))
    every = np.arange(len(records))
    return FederationData(records, Split(every[:12], every[:0], every[12:]), parts, "")


def by_site(test_sites: list[str], right: list[bool], **changes: object) -> list[float | None]:
    data = federation(test_sites)
    test = data.part("test")
    settings = Settings(**{"clients": 3, "partition": "site", "malicious": 0, **changes})  # type: ignore[arg-type]
    guessed = np.where(right, test.labels, (test.labels + 1) % 4)
    return HospitalAccuracy(Scenario.of(settings), data, test).of(
        np.eye(4)[guessed], lambda images: np.eye(4)[guessed]
    )


def test_hospital_accuracy_by_site_counts_only_the_own_sites() -> None:
    sites = ["site 0"] * 4 + ["site 1"] * 4
    right = [True, True, True, False] + [False] * 4
    # No test image of site 2: there all count. Classes 0 to 3: 1/2, 1/2, 1/2, 0.
    assert by_site(sites, right) == [0.75, 0.0, pytest.approx(3 / 8)]
    assert by_site(sites, right, partition="iid") == [pytest.approx(3 / 8)] * 3


def test_atypical_hospital_is_evaluated_with_its_own_scanner(tmp_path: Path) -> None:
    settings = tiny(tmp_path, clients=5, threat=("other-scanner:2", "other-scanner(gamma=3) + label-flip:1"))
    data = prepare(Scenario.of(settings).data)
    test = data.part("test")
    scanned = (
        Scenario.of(settings).attacks_of(Scenario.of(settings).atypical[0])[0].transform_records(test).images
    )
    hospitals = HospitalAccuracy(Scenario.of(settings), data, test)
    seen = []

    def predict(images: np.ndarray) -> np.ndarray:
        seen.append(images)
        return np.eye(6)[(test.labels + 1) % 6]

    accuracies = hospitals.of(np.eye(6)[test.labels], predict)
    # Both have the same scanner, so the model is evaluated once; that of a malicious hospital does not count.
    (only,) = seen
    np.testing.assert_array_equal(only, scanned)
    atypical = set(Scenario.of(settings).atypical)
    assert len(atypical) == 2
    assert accuracies == [pytest.approx(0.0 if number in atypical else 1.0) for number in range(5)]
    assert hospitals.worst(accuracies) == 0.0


def test_atypical_hospital_of_one_class_has_the_sensitivity_of_that_class(tmp_path: Path) -> None:
    settings = tiny(tmp_path, threat=("single-class(only=1):1",))
    data = prepare(Scenario.of(settings).data)
    test = data.part("test")
    guessed = np.where(test.labels == 1, 0, test.labels)
    accuracies = HospitalAccuracy(Scenario.of(settings), data, test).of(
        np.eye(6)[guessed], lambda images: 1 / 0
    )
    (atypical,) = Scenario.of(settings).atypical
    assert accuracies[atypical] == 0
    assert all(value is not None and value > 0.5 for n, value in enumerate(accuracies) if n != atypical)


def test_behaviour_that_fails_on_test_images_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients" / "moody.py").write_text(
        "from fedrobust.federation import Behaviour\n\nclass Moody(Behaviour):\n"
        "    def transform_records(self, records):\n"
        "        assert len(records) > 30\n        return records\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    result = run(tiny(tmp_path, malicious=1, attack="moody"))
    assert all(value is not None for value in result.rounds[-1]["hospital_accuracy"])


def test_worst_hospital_excludes_malicious_and_unknown_ones(tmp_path: Path) -> None:
    settings = tiny(tmp_path, malicious=1)
    data = prepare(Scenario.of(settings).data)
    test = data.part("test")
    hospitals = HospitalAccuracy(Scenario.of(settings), data, test)
    (bad,) = Scenario.of(settings).malicious
    honest = next(number for number in range(4) if number != bad)
    values: list[float | None] = [0.5] * 4
    values[bad], values[honest] = 0.1, None
    assert hospitals.worst(values) == 0.5
    assert hospitals.worst([None] * 4) is None
    hospitals.unknown = frozenset({honest})
    assert hospitals.of(np.eye(6)[test.labels], lambda images: images)[honest] is None


def test_rounds_have_hospital_accuracies(tmp_path: Path) -> None:
    result = run(tiny(tmp_path, malicious=1, partition="dirichlet(alpha=0.5)"))
    for line in result.rounds:
        accuracies = line["hospital_accuracy"]
        assert len(accuracies) == 4 and len(set(accuracies)) > 1
        assert line["worst_hospital"] == min(v for n, v in enumerate(accuracies) if n not in result.malicious)


@pytest.mark.parametrize("classes", [4, 12])
def test_accuracies_of_all_hospitals_at_once_are_those_of_each_by_itself(
    tmp_path: Path, classes: int
) -> None:
    # Also with more classes than the eight that a sum adds up side by side.
    rng = np.random.default_rng(classes)
    records = make_records(600, classes=classes)
    test = records.take(np.arange(400, 590))
    # Of the images in the order of their classes each hospital gets a piece: it has few classes.
    order = np.argsort(records.labels[:400], kind="stable")
    parts = tuple(
        np.sort(rng.permutation(part)[: 3 + place]) for place, part in enumerate(np.array_split(order, 20))
    )
    scenario = Scenario.of(tiny(tmp_path, clients=20))
    clean = rng.random((len(test), classes))
    data = replace(prepare(scenario.data), records=records, hospitals=parts)
    found = HospitalAccuracy(scenario, data, test).of(clean, lambda images: clean)
    right = clean.argmax(axis=1) == test.labels
    counts = [np.bincount(records.labels[part], minlength=classes) for part in parts]
    assert found == [mixed_accuracy(right, test.labels, one) for one in counts]
    assert len({tuple(one > 0) for one in counts}) > 3

"""The study of what synthetic images add to few real ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedrobust.data.records import Records
from fedrobust.evaluation import utility
from fedrobust.evaluation.metrics import metric_of
from fedrobust.evaluation.utility import utility_of
from fedrobust.results.records import SynthesisSummary


def shaded(count: int, noise: int, seed: int) -> Records:
    """Return images of two classes, darker and brighter, that noise makes hard to tell from few."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    images = 100 + 40 * labels[:, None, None, None] + rng.integers(-noise, noise + 1, (count, 1, 16, 16))
    return Records(images.astype(np.uint8), labels, ("dark", "bright"))


def test_sets_are_nested_balanced_and_held_beside_the_added_images(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Records] = []

    class Counting:
        def __init__(self, records: Records, *_: Any) -> None:
            seen.append(records)
            self.of = records

        def recognises(self, images: np.ndarray, labels: np.ndarray) -> float:
            return len(self.of) / 1000

    monkeypatch.setattr(utility, "Judge", Counting)
    train = shaded(60, 20, 0)
    found = utility_of(lambda labels: np.zeros((len(labels), 1, 16, 16), np.uint8), train, train, 7, 0)
    # A class with fewer than so many gives all that it has, and nothing is measured twice.
    assert [use.real for use in found] == [10, 25, 50]
    assert [len(records) for records in seen[::2]] == [20, 50, 60]
    assert [len(records) for records in seen[1::2]] == [34, 64, 74]
    assert np.bincount(seen[0].labels).tolist() == [10, 10]
    assert np.bincount(seen[1].labels).tolist() == [17, 17] and not seen[1].images[20:].any()
    smaller = {image.tobytes() for image in seen[0].images}
    assert smaller <= {image.tobytes() for image in seen[2].images}
    assert (found[0].without, found[0].supplemented) == (0.02, 0.034)


def test_images_that_are_not_finite_add_nothing() -> None:
    assert utility_of(lambda labels: None, shaded(20, 5, 0), shaded(20, 5, 1), 5, 0) == ()


def test_a_suite_compares_the_accuracy_and_the_gain_in_points() -> None:
    summary = SynthesisSummary(
        utility=({"real": 25, "without": 0.7, "supplemented": 0.76},)  # type: ignore[arg-type]
    )
    assert summary.metrics == {"utility:25": 0.76, "utility_gain:25": pytest.approx(6)}
    shown = [(metric_of(key).name, metric_of(key).unit) for key in summary.metrics]
    assert shown == [("utility, 25 real", "share"), ("gain from synthetic images, 25 real", "points")]

from __future__ import annotations

import numpy as np
import pytest
from helpers import make_records

from clients.label_noise import LabelNoise
from fedrobust.data.records import Records

RECORDS = make_records(6000, classes=4, size=(2, 2))


def noisy(rate: float, records: Records = RECORDS, seed: int = 0) -> Records:
    attack = LabelNoise(rate)
    attack.bind(rng=np.random.default_rng(seed))
    return attack.poison_records(records)


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.9])
def test_label_noise_labels_are_wrong_at_the_rate_and_each_wrong_one_is_as_likely(rate: float) -> None:
    labels = noisy(rate).labels
    assert labels.dtype == np.int64
    assert (labels != RECORDS.labels).mean() == pytest.approx(rate, abs=5 * np.sqrt(rate * (1 - rate) / 6000))
    table = np.zeros((4, 4))
    np.add.at(table, (RECORDS.labels, labels), 1)
    wrong = table[~np.eye(4, dtype=bool)]
    expected = 1500 * rate / 3
    assert np.abs(wrong - expected).max() < 5 * np.sqrt(expected)


def test_label_noise_at_rate_1_all_are_wrong() -> None:
    assert (noisy(1.0).labels != RECORDS.labels).all()
    two = make_records(20, classes=2)
    np.testing.assert_array_equal(noisy(1.0, two).labels, 1 - two.labels)


def test_label_noise_errors_are_independent() -> None:
    # The number of errors varies as a binomial's does; a fixed budget would not.
    counts = [
        (noisy(0.3, make_records(100), seed).labels != make_records(100).labels).sum() for seed in range(40)
    ]
    assert len(set(counts)) > 5


def test_label_noise_images_and_inputs_stay() -> None:
    labels = RECORDS.labels.copy()
    np.testing.assert_array_equal(noisy(0.5).images, RECORDS.images)
    np.testing.assert_array_equal(RECORDS.labels, labels)


def test_label_noise_noise_follows_from_the_generator() -> None:
    one, same, other = (noisy(0.5, seed=seed).labels for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)

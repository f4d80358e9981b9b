from __future__ import annotations

import numpy as np
import pytest
from helpers import make_records

from clients.random_labels import RandomLabels
from fedrobust.data.records import Records

RECORDS = make_records(4000, classes=4, size=(2, 2))


def drawn(records: Records = RECORDS, seed: int = 0, share: float = 1.0) -> Records:
    attack = RandomLabels(share)
    attack.bind(rng=np.random.default_rng(seed))
    return attack.poison_records(records)


def test_random_labels_every_label_is_as_likely_whatever_the_truth() -> None:
    labels = drawn().labels
    assert labels.dtype == np.int64
    table = np.zeros((4, 4))
    np.add.at(table, (RECORDS.labels, labels), 1)
    # 250 expected in each cell; five standard deviations of a binomial.
    assert np.abs(table - 250).max() < 5 * np.sqrt(1000 * 0.25 * 0.75)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_random_labels_budget_is_a_share_of_the_images(share: float) -> None:
    changed = (drawn(share=share).labels != RECORDS.labels).sum()
    # Three in four of the drawn labels are wrong.
    assert changed == pytest.approx(0.75 * share * 4000, rel=0.1)
    kept = make_records(10, classes=50, labels=[7] * 10)
    assert (drawn(kept, share=0.3).labels != 7).sum() <= 3


def test_random_labels_images_and_inputs_stay() -> None:
    labels = RECORDS.labels.copy()
    made = drawn()
    np.testing.assert_array_equal(made.images, RECORDS.images)
    np.testing.assert_array_equal(RECORDS.labels, labels)


def test_random_labels_labels_follow_from_the_generator() -> None:
    one, same, other = (drawn(seed=seed).labels for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)

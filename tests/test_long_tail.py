"""A long tail of classes in the training and validation parts."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import make_records

from fedrobust.data.long_tail import long_tailed
from fedrobust.data.sources import prepare
from fedrobust.data.split import pooled
from fedrobust.scenario import Scenario
from fedrobust.settings import Settings

RECORDS = make_records(labels=[0] * 300 + [1] * 400 + [2] * 50 + [3] * 200, size=(8, 8))


def counts(index: np.ndarray) -> list[int]:
    return np.bincount(RECORDS.labels[index], minlength=4).tolist()


def test_counts_fall_by_equal_factors_from_the_commonest_class_to_the_rarest() -> None:
    split = pooled(RECORDS, 3)
    assert counts(split.train) == [210, 280, 35, 140]
    made = long_tailed(split, RECORDS.labels, 27, 3)
    # 280, then a third each: 93, 31, 10, in the order of the classes' sizes.
    assert counts(made.train) == [93, 280, 10, 31]
    assert counts(made.val) == [27, 80, 3, 9]
    np.testing.assert_array_equal(made.test, split.test)
    for part in ("train", "val"):
        chosen = getattr(made, part)
        assert set(chosen) < set(getattr(split, part)) and (np.diff(chosen) > 0).all()


def test_a_class_keeps_what_it_has_and_at_least_one_image() -> None:
    split = pooled(RECORDS, 3)
    assert counts(long_tailed(split, RECORDS.labels, 2, 3).train) == [210, 280, 35, 140]
    assert counts(long_tailed(split, RECORDS.labels, 1e4, 3).train) == [13, 280, 1, 1]


def test_it_follows_from_the_seed_and_1_changes_nothing() -> None:
    split = pooled(RECORDS, 3)
    first, again, other = (long_tailed(split, RECORDS.labels, 27, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.train, again.train)
    assert not np.array_equal(first.train, other.train)
    assert long_tailed(split, RECORDS.labels, 1, 3) is split


@pytest.mark.parametrize("imbalance", [1.5, 27])
def test_a_class_without_images_is_left_out(imbalance: float) -> None:
    labels = np.where(RECORDS.labels == 2, 1, RECORDS.labels)
    split = pooled(RECORDS, 3)
    made = long_tailed(split, labels, imbalance, 3)
    assert np.bincount(labels[made.train], minlength=4)[2] == 0


def test_the_setting_reaches_the_hospitals_data() -> None:
    settings = Settings(data="phantom(images=240, size=16)", clients=2, imbalance=10)
    data = prepare(Scenario.of(settings).data)
    plain = prepare(Scenario.of(settings.model_copy(update={"imbalance": 1.0})).data)
    train = np.bincount(data.records.labels[np.concatenate(data.hospitals)])
    assert train.max() == np.bincount(data.records.labels[plain.split.train]).max()
    assert train.min() <= train.max() / 8
    assert sum(map(len, data.hospitals)) == len(data.split.train) < len(plain.split.train)
    np.testing.assert_array_equal(data.split.test, plain.split.test)

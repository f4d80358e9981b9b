from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers import make_records

from clients.label_flip import LabelFlip
from fedrobust.data.records import Records
from fedrobust.errors import UserError

RECORDS = make_records(40, classes=4)


def flipped(records: Records = RECORDS, seed: int = 0, **options: Any) -> Records:
    """Return the records that a hospital with this attack trains on."""
    attack = LabelFlip(**options)
    attack.bind(rng=np.random.default_rng(seed))
    return attack.poison_records(records)


@pytest.mark.parametrize("shift", [1, 2, 3, 5, -1, 7])
def test_label_flip_every_label_moves_by_the_shift(shift: int) -> None:
    labels = flipped(shift=shift, share=1.0).labels
    np.testing.assert_array_equal(labels, (RECORDS.labels + shift) % 4)
    assert labels.dtype == np.int64 and (labels != RECORDS.labels).all()


@pytest.mark.parametrize(("share", "count"), [(0.25, 10), (0.5, 20), (0.99, 40), (0.03, 1), (1e-6, 1)])
def test_label_flip_share_is_of_the_hospitals_images(share: float, count: int) -> None:
    assert (flipped(share=share).labels != RECORDS.labels).sum() == count


def test_label_flip_images_and_everything_else_stay() -> None:
    made = flipped(share=0.5)
    np.testing.assert_array_equal(made.images, RECORDS.images)
    assert made.classes == RECORDS.classes and len(made) == len(RECORDS)
    np.testing.assert_array_equal(made.facts["site"], RECORDS.facts["site"])


def test_label_flip_given_records_stay_untouched() -> None:
    labels = RECORDS.labels.copy()
    flipped(share=1.0)
    np.testing.assert_array_equal(RECORDS.labels, labels)


def test_label_flip_choice_follows_from_the_generator() -> None:
    choices = [tuple((flipped(seed=seed, share=0.3).labels != RECORDS.labels).tolist()) for seed in (0, 0, 1)]
    assert choices[0] == choices[1] != choices[2]
    # Not just the first images of the file.
    assert not all(choices[0][:12])


def test_label_flip_two_classes_swap() -> None:
    records = make_records(10, classes=2)
    np.testing.assert_array_equal(flipped(records, shift=1, share=1.0).labels, 1 - records.labels)


def test_label_flip_one_record_is_flipped() -> None:
    assert flipped(make_records(1), share=0.1, shift=1).labels.tolist() == [1]


def test_label_flip_shift_beside_a_confusion_matrix_is_refused() -> None:
    with pytest.raises(
        UserError, match="label-flip: confusion decides what each class becomes, so shift has no use"
    ):
        flipped(mode="look-alike", shift=2, confusion=[[8, 2], [3, 7]])


def test_label_flip_plants_no_trigger() -> None:
    assert LabelFlip().trigger(RECORDS) is None


def test_label_flip_pairwise_flips_one_class_to_one_other() -> None:
    labels = flipped(mode="pairwise", source=1, target=3).labels
    np.testing.assert_array_equal(labels, np.where(RECORDS.labels == 1, 3, RECORDS.labels))
    # The budget is of the source's ten images.
    few = flipped(mode="pairwise", source=1, target=3, share=0.3).labels
    assert (few != RECORDS.labels).sum() == 3 and (RECORDS.labels[few != RECORDS.labels] == 1).all()


def test_label_flip_pairwise_without_images_of_the_source_changes_nothing() -> None:
    records = make_records(labels=[0, 3, 3])
    made = flipped(records, mode="pairwise", source=1, target=3)
    np.testing.assert_array_equal(made.labels, records.labels)


def test_label_flip_look_alike_follows_a_given_confusion_matrix() -> None:
    confusion = [[90, 1, 7, 2], [3, 80, 3, 1], [0, 0, 1, 0.5], [5, 9, 0, 99]]
    labels = flipped(mode="look-alike", confusion=confusion).labels
    np.testing.assert_array_equal(labels, np.array([2, 0, 3, 1])[RECORDS.labels])


def test_label_flip_look_alike_estimates_confusion_from_own_images() -> None:
    # Levels 10, 20, 60 and 90: 10 and 20 are alike, 60 is nearer to 90 than to 20, and 90 to 60.
    labels = np.arange(40) % 4
    levels = np.array([10, 20, 60, 90])[labels] + np.random.default_rng(0).integers(-3, 4, 40)
    images = np.broadcast_to(levels[:, None, None, None], (40, 1, 8, 8)).astype(np.uint8)
    made = flipped(replace(RECORDS, images=images), mode="look-alike", share=0.5)
    changed = made.labels != RECORDS.labels
    assert changed.sum() == 20
    np.testing.assert_array_equal(made.labels[changed], np.array([1, 0, 3, 2])[labels[changed]])
    # A class that the hospital does not hold is confused with none.
    two = replace(make_records(labels=labels[labels % 2 == 0].tolist()), images=images[labels % 2 == 0])
    np.testing.assert_array_equal(flipped(two, mode="look-alike").labels, 2 - two.labels)


def test_label_flip_look_alike_with_one_class_uses_the_shift() -> None:
    records = make_records(labels=[2, 2, 2])
    assert flipped(records, mode="look-alike").labels.tolist() == [3, 3, 3]
    assert flipped(records, mode="look-alike", shift=2).labels.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "pairwise", "source": 1}, "needs source and target"),
        ({"mode": "pairwise", "source": 1, "target": 1}, "both 1"),
        ({"mode": "pairwise", "source": 1, "target": 2, "shift": 1}, "shift does not belong"),
        ({"source": 1}, "source does not belong to the mode 'all'"),
        ({"confusion": [[0, 1], [1, 0]]}, "confusion does not belong"),
        ({"mode": "look-alike", "confusion": [[1, 2], [3]]}, "square"),
        ({"mode": "look-alike", "confusion": [1, 2]}, "square"),
        ({"mode": "look-alike", "confusion": [[0, -1], [1, 0]]}, "not negative"),
        ({"mode": "look-alike", "confusion": [[9, 1], [0, 9]]}, "class 1 is classified as no other"),
    ],
)
def test_label_flip_options_that_contradict_each_other_are_refused(
    options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        LabelFlip(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "pairwise", "source": 4, "target": 1}, "source is 4, but the data have classes 0 to 3"),
        ({"mode": "pairwise", "source": 1, "target": 4}, "target is 4, but the data have classes 0 to 3"),
        ({"mode": "look-alike", "confusion": [[0, 1], [1, 0]]}, "2 classes, but the data have 4"),
    ],
)
def test_label_flip_options_that_do_not_fit_the_data_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        LabelFlip(**options).check(RECORDS)


@pytest.mark.parametrize("shift", [0, 4, -8])
def test_label_flip_shift_that_changes_nothing_is_refused(shift: int) -> None:
    with pytest.raises(UserError, match=f"shift={shift} changes no label of 4 classes"):
        flipped(shift=shift)

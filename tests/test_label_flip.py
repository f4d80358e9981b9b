from __future__ import annotations

import numpy as np
import pytest
from helpers import make_records

from clients.label_flip import LabelFlip
from fedrobust.data.records import Records
from fedrobust.errors import UserError

RECORDS = make_records(40, classes=4)


def flipped(records: Records = RECORDS, seed: int = 0, **options: float) -> Records:
    """Return the records that a hospital with this attack trains on."""
    attack = LabelFlip(**options)  # type: ignore[arg-type]
    attack.rng = np.random.default_rng(seed)
    return attack.poison_records(records)


@pytest.mark.parametrize("shift", [1, 2, 3, 5, -1, 7])
def test_every_label_moves_by_the_shift(shift: int) -> None:
    labels = flipped(shift=shift, share=1.0).labels
    np.testing.assert_array_equal(labels, (RECORDS.labels + shift) % 4)
    assert labels.dtype == np.int64 and (labels != RECORDS.labels).all()


@pytest.mark.parametrize(("share", "count"), [(0.25, 10), (0.5, 20), (0.99, 40), (0.03, 1), (1e-6, 1)])
def test_share_is_of_the_hospitals_images(share: float, count: int) -> None:
    assert (flipped(share=share).labels != RECORDS.labels).sum() == count


def test_pictures_and_everything_else_stay() -> None:
    made = flipped(share=0.5)
    np.testing.assert_array_equal(made.images, RECORDS.images)
    assert made.classes == RECORDS.classes and len(made) == len(RECORDS)
    np.testing.assert_array_equal(made.facts["site"], RECORDS.facts["site"])


def test_the_given_records_stay_untouched() -> None:
    labels = RECORDS.labels.copy()
    flipped(share=1.0)
    np.testing.assert_array_equal(RECORDS.labels, labels)


def test_the_choice_follows_from_the_generator() -> None:
    choices = [tuple((flipped(seed=seed, share=0.3).labels != RECORDS.labels).tolist()) for seed in (0, 0, 1)]
    assert choices[0] == choices[1] != choices[2]
    # Not just the first images of the file.
    assert not all(choices[0][:12])


def test_two_classes_swap() -> None:
    records = make_records(10, classes=2)
    np.testing.assert_array_equal(flipped(records, shift=1, share=1.0).labels, 1 - records.labels)


def test_one_record_is_flipped() -> None:
    assert flipped(make_records(1), share=0.1, shift=1).labels.tolist() == [1]


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(UserError, match="label-flip: share"):
        LabelFlip(share=share)


@pytest.mark.parametrize("shift", [0, 4, -8])
def test_a_shift_that_changes_nothing_is_refused(shift: int) -> None:
    with pytest.raises(UserError, match=f"shift={shift} changes no label of 4 classes"):
        flipped(shift=shift)


def test_a_broken_shift_is_refused() -> None:
    # (y + 0.5) mod K, stored as an integer, is y: an attack that changes nothing must say so.
    with pytest.raises(UserError, match="shift"):
        flipped(shift=0.5)


def test_it_plants_no_trigger() -> None:
    assert LabelFlip().trigger(RECORDS) is None

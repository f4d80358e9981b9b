from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import make_records

from clients.backdoor import Backdoor
from fedrobust.data.records import Records
from fedrobust.errors import UserError

PLACES = ("top-left", "top-right", "bottom-left", "bottom-right", "center", "random")
BLACK = Records(np.zeros((40, 1, 28, 28), np.uint8), np.arange(40) % 4, ("a", "b", "c", "d"))


def attack(seed: int = 0, **options: Any) -> Backdoor:
    """Return an attack with a generator."""
    made = Backdoor(**options)
    made.bind(rng=np.random.default_rng(seed))
    return made


def boxes(images: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Return top, left, bottom and right (exclusive) of the pixels that are not black: a full box."""
    found = []
    for image in images:
        rows, columns = np.nonzero(image.any(axis=0))
        box = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
        assert image[:, box[0] : box[2], box[1] : box[3]].all(), "the patch has holes"
        found.append(tuple(int(edge) for edge in box))
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("size", "side"), [(1 / 784, 1), (1e-6, 1), (0.02, 4), (0.1, 9), (0.25, 14), (1.0, 28)]
)
def test_backdoor_patch_covers_the_share_of_the_area(place: str, size: float, side: int) -> None:
    stamped = attack(place=place, size=size, share=1.0).poison_records(BLACK).images
    assert {(bottom - top, right - left) for top, left, bottom, right in boxes(stamped)} == {(side, side)}
    assert set(np.unique(stamped)) <= {0, 255}


@pytest.mark.parametrize("side", [8, 28, 64, 128])
def test_backdoor_area_is_as_near_as_a_square_can_be(side: int) -> None:
    records = Records(np.zeros((2, 1, side, side), np.uint8), np.ones(2, np.int64), ("a", "b"))
    for size in (0.01, 0.03, 0.0039, 0.2, 0.5, 0.9):
        top, left, bottom, right = boxes(attack(size=size, share=1.0).poison_records(records).images)[0]
        wanted = max(1.0, np.sqrt(size) * side)
        assert abs((bottom - top) - wanted) <= 0.5 and bottom - top == right - left


def test_backdoor_authors_patch() -> None:
    # FedDetect's authors: 16 x 16 pixels on 256 x 256, 0.39 % of the area.
    records = Records(np.zeros((1, 1, 256, 256), np.uint8), np.ones(1, np.int64), ("a", "b"))
    top, left, bottom, right = boxes(attack(size=0.0039, share=1.0).poison_records(records).images)[0]
    assert (bottom - top, right - left) == (16, 16)


@pytest.mark.parametrize(
    ("place", "top", "left"),
    [
        ("top-left", 1, 1),
        ("top-right", 1, 23),
        ("bottom-left", 23, 1),
        ("bottom-right", 23, 23),
        ("center", 12, 12),
    ],
)
def test_backdoor_patch_stands_where_it_is_asked_for(place: str, top: int, left: int) -> None:
    stamped = attack(place=place, size=0.02, share=1.0).poison_records(BLACK).images
    assert set(boxes(stamped)) == {(top, left, top + 4, left + 4)}


@pytest.mark.parametrize("place", PLACES)
def test_backdoor_images_that_are_not_square(place: str) -> None:
    records = Records(np.zeros((5, 1, 12, 48), np.uint8), np.ones(5, np.int64), ("a", "b"))
    for top, left, bottom, right in boxes(
        attack(place=place, size=0.1, share=1.0).poison_records(records).images
    ):
        # A patch of the image's own proportions covers the stated share of any image.
        assert (bottom - top, right - left) == (4, 15)
        assert place != "top-right" or (top, right) == (1, 47)
        assert place != "bottom-left" or (bottom, left) == (11, 1)


def test_backdoor_random_places_differ_and_reach_the_edges() -> None:
    records = Records(np.zeros((400, 1, 10, 10), np.uint8), np.ones(400, np.int64), ("a", "b"))
    found = set(boxes(attack(place="random", size=0.09, share=1.0).poison_records(records).images))
    assert {box[:2] for box in found} == {(top, left) for top in range(8) for left in range(8)}


@pytest.mark.parametrize(("blend", "level"), [(1.0, 255), (0.5, 178), (0.25, 139), (0.01, 102)])
def test_backdoor_blend_mixes_patch_and_image(blend: float, level: int) -> None:
    images = np.full((3, 3, 10, 10), 100, np.uint8)
    images[:, 1] = 255
    records = Records(images, np.ones(3, np.int64), ("a", "b"))
    stamped = attack(blend=blend, place="top-left", size=0.16, share=1.0).poison_records(records).images
    np.testing.assert_array_equal(stamped[:, 0, 1:5, 1:5], level)
    np.testing.assert_array_equal(stamped[:, 1], 255)
    outside = np.ones((10, 10), bool)
    outside[1:5, 1:5] = False
    assert (stamped[:, 0, outside] == 100).all() and (stamped[:, 2, outside] == 100).all()


def test_backdoor_rgb_patches_are_white() -> None:
    records = make_records(6, channels=3, size=(16, 16))
    stamped = attack(place="center", size=0.07, share=1.0).poison_records(records).images
    assert stamped.shape == records.images.shape and stamped.dtype == np.uint8
    assert (stamped[:, :, 6:10, 6:10] == 255).all()
    changed = stamped != records.images
    changed[:, :, 6:10, 6:10] = False
    assert not changed.any()


@pytest.mark.parametrize(("share", "count"), [(1.0, 40), (0.5, 20), (0.1, 4), (1e-6, 1)])
def test_backdoor_share_of_the_images_is_stamped_and_relabelled(share: float, count: int) -> None:
    made = attack(share=share, target=2).poison_records(BLACK)
    stamped = made.images.any(axis=(1, 2, 3))
    assert stamped.sum() == count
    assert (made.labels[stamped] == 2).all()
    np.testing.assert_array_equal(made.labels[~stamped], BLACK.labels[~stamped])
    assert made.labels.dtype == np.int64 and made.classes == BLACK.classes


def test_backdoor_inputs_stay_untouched() -> None:
    images, labels = BLACK.images.copy(), BLACK.labels.copy()
    poisoner = attack(share=1.0, target=1)
    poisoner.poison_records(BLACK)
    poisoner.trigger(BLACK)
    np.testing.assert_array_equal(BLACK.images, images)
    np.testing.assert_array_equal(BLACK.labels, labels)


@pytest.mark.parametrize("place", ["center", "random"])
def test_backdoor_choice_follows_from_the_generator(place: str) -> None:
    one, same, other = (attack(seed, place=place, share=0.4).poison_records(BLACK) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.images, same.images)
    np.testing.assert_array_equal(one.labels, same.labels)
    chosen = one.images.any(axis=(1, 2, 3))
    assert not np.array_equal(chosen, other.images.any(axis=(1, 2, 3)))
    assert not chosen[:16].all()


def test_backdoor_trigger_leaves_the_target_class_out() -> None:
    trigger = attack(target=2, place="top-left", size=0.02).trigger(BLACK)
    assert trigger is not None and trigger.target == 2
    others = np.flatnonzero(BLACK.labels != 2)
    assert len(trigger.records) == 30
    # True labels are kept, so that the image's class stays known.
    np.testing.assert_array_equal(trigger.records.labels, BLACK.labels[others])
    assert set(boxes(trigger.records.images)) == {(1, 1, 5, 5)}


def test_backdoor_trigger_is_what_the_hospital_trained_on() -> None:
    records = make_records(8, classes=4, size=(28, 28))
    backdoor = attack(target=0, share=1.0, size=0.03, blend=0.6, place="bottom-left")
    trained = backdoor.poison_records(records).images
    trigger = backdoor.trigger(records)
    assert trigger is not None
    np.testing.assert_array_equal(trigger.records.images, trained[records.labels != 0])


def test_backdoor_trigger_of_test_data_with_the_target_class_alone_is_empty() -> None:
    trigger = attack(target=1).trigger(make_records(labels=[1, 1, 1]))
    assert trigger is not None and len(trigger.records) == 0


def test_backdoor_target_that_the_data_do_not_have_is_refused() -> None:
    for call in (attack(target=4).poison_records, attack(target=4).trigger):
        with pytest.raises(UserError, match="target is 4, but the data have classes 0 to 3"):
            call(BLACK)


def test_backdoor_mark_too_small_for_the_images_is_refused_by_the_check() -> None:
    with pytest.raises(UserError, match="scanner-text"):
        attack(pattern="scanner-text").check(make_records(size=(8, 8)))


def test_backdoor_two_backdoors_in_a_chain_stamp_both_marks() -> None:
    first, second = attack(place="top-left", share=1.0), attack(place="bottom-right", share=1.0)
    made = second.poison_records(first.poison_records(BLACK)).images
    assert (made[:, 0, 1, 1] == 255).all() and (made[:, 0, 26, 26] == 255).all()


@pytest.mark.parametrize("pattern", ["blended", "checkerboard", "scanner-text", "ruler"])
def test_backdoor_every_pattern_is_trained_and_tested_alike(pattern: str) -> None:
    backdoor = attack(pattern=pattern, share=1.0, target=1)
    trained = backdoor.poison_records(BLACK)
    trigger = backdoor.trigger(BLACK)
    assert trigger is not None and (trained.labels == 1).all()
    np.testing.assert_array_equal(trigger.records.images, trained.images[BLACK.labels != 1])
    patch = attack(share=1.0, size=backdoor.mark.size).poison_records(BLACK).images
    assert trained.images.any() and not np.array_equal(trained.images, patch)


def test_backdoor_one_to_one_stamps_its_source_only() -> None:
    records = make_records(40, classes=4, size=(16, 16))
    attack = Backdoor(source=2, target=1, share=0.5)
    attack.bind(rng=np.random.default_rng(0))
    made = attack.poison_records(records)
    changed = np.flatnonzero((made.images != records.images).any(axis=(1, 2, 3)))
    assert len(changed) == 5 and set(records.labels[changed]) == {2} and set(made.labels[changed]) == {1}
    trigger = attack.trigger(records)
    assert trigger is not None and set(trigger.records.labels) == {2} and trigger.target == 1
    without = records.take(np.flatnonzero(records.labels != 2))
    assert np.array_equal(attack.poison_records(without).images, without.images)


def test_backdoor_all_to_all_shifts_every_class() -> None:
    records = make_records(40, classes=4, size=(16, 16))
    attack = Backdoor(shift=1, share=1.0)
    attack.bind(rng=np.random.default_rng(0))
    assert np.array_equal(attack.poison_records(records).labels, (records.labels + 1) % 4)
    trigger = attack.trigger(records)
    assert trigger is not None and np.array_equal(trigger.target, (records.labels + 1) % 4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"source": 0}, "source and target are one class"),
        ({"source": 1, "shift": 1}, "shift is of all classes"),
        ({"source": 9}, "source is 9"),
        ({"shift": 4}, "leaves every class as it is"),
    ],
)
def test_backdoor_options_that_do_not_fit(options: dict[str, int], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Backdoor(**options).check(make_records(8, classes=4, size=(16, 16)))  # type: ignore[arg-type]

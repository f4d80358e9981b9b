from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import make_records

from fedrobust.data.records import Records, class_members
from fedrobust.errors import UserError


def test_length_and_counts_include_absent_classes() -> None:
    records = make_records(labels=[0, 2, 2, 2, 0], classes=4)
    assert len(records) == 5
    counts = records.counts()
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, [2, 0, 3, 0])


def test_take_keeps_images_labels_facts_and_parts_together() -> None:
    records = replace(make_records(6), parts=np.array(["train", "val", "test", "train", "val", "test"]))
    taken = records.take(np.array([4, 0, 4]))
    np.testing.assert_array_equal(taken.images, records.images[[4, 0, 4]])
    np.testing.assert_array_equal(taken.labels, records.labels[[4, 0, 4]])
    assert taken.facts["site"].tolist() == ["site 1", "site 0", "site 1"]
    assert taken.parts is not None and taken.parts.tolist() == ["val", "train", "val"]
    assert taken.classes == records.classes and taken.source == records.source


def test_take_copies_the_images() -> None:
    records = make_records(6)
    kept = records.images.copy()
    records.take(np.arange(6)).images[:] = 0
    np.testing.assert_array_equal(records.images, kept)


def test_take_of_a_slice_is_a_view() -> None:
    records = make_records(20, 3)
    part = records.take(slice(5, 9))
    assert np.shares_memory(part.images, records.images)
    np.testing.assert_array_equal(part.images, records.take(np.arange(5, 9)).images)
    np.testing.assert_array_equal(part.labels, records.labels[5:9])


def test_take_of_nothing_is_legal() -> None:
    nothing = make_records(6).take(np.zeros(0, np.int64))
    assert len(nothing) == 0 and nothing.counts().tolist() == [0, 0, 0, 0]


def test_records_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        make_records().source = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((4, 8, 8), np.uint8),
        np.zeros((4, 2, 8, 8), np.uint8),
        np.zeros((4, 8, 8, 3), np.uint8),
        np.zeros((4, 1, 8, 8), np.float32),
    ],
)
def test_images_of_another_kind_are_refused(images: Any) -> None:
    with pytest.raises(UserError, match="images must be uint8 of shape"):
        Records(images, np.zeros(4, np.int64), ("a", "b"))


def test_columns_of_another_length_are_refused() -> None:
    images, labels = np.zeros((4, 1, 8, 8), np.uint8), np.zeros(4, np.int64)
    with pytest.raises(UserError, match="each image needs one"):
        Records(images, labels[:3], ("a", "b"))
    with pytest.raises(UserError, match="each image needs one"):
        Records(images, labels, ("a", "b"), facts={"site": np.array(["x"] * 5)})
    with pytest.raises(UserError, match="each image needs one"):
        Records(images, labels, ("a", "b"), parts=np.array(["train"] * 3))


@pytest.mark.parametrize("label", [-1, 2])
def test_labels_out_of_range_are_refused_and_the_source_is_named(label: int) -> None:
    with pytest.raises(UserError, match=r"chest\.npz: labels run from .* 2 classes"):
        Records(np.zeros((2, 1, 8, 8), np.uint8), np.array([0, label]), ("a", "b"), source="chest.npz")


def test_digest_changes_with_anything_that_a_run_depends_on() -> None:
    records = make_records(6)
    images, labels = records.images.copy(), records.labels.copy()
    images[3, 0, 2, 2] ^= 1
    labels[0] = 3
    others = [
        replace(records, images=images),
        replace(records, labels=labels),
        replace(records, classes=("a", "b", "c", "d")),
        replace(records, facts={"site": np.array(["site 0"] * 6)}),
        replace(records, facts={"sex": records.facts["site"]}),
        replace(records, images=records.images.reshape(6, 1, 4, 16)),
        records.take(np.array([1, 0, 2, 3, 4, 5])),
        records.take(np.arange(5)),
    ]
    digests = {records.digest(), *(other.digest() for other in others)}
    assert len(digests) == len(others) + 1


def test_digest_is_about_the_contents_alone(tmp_path: Path) -> None:
    records = make_records(6, channels=3)
    facts = {"b": np.array(list("uvwxyz")), "a": np.array(list("zyxwvu"))}
    records = replace(records, facts=facts)
    file = tmp_path / "images.npy"
    np.save(file, records.images)
    same = Records(
        images=np.load(file, mmap_mode="r"),
        labels=records.labels.astype(np.int32),
        classes=records.classes,
        facts=dict(reversed(list(facts.items()))),
        source="elsewhere",
    )
    assert same.digest() == records.digest()
    strided = np.repeat(records.images, 2, axis=0)[::2]
    assert replace(records, images=strided).digest() == records.digest()


def test_class_members_are_each_class_with_records_or_those_among_some_places() -> None:
    labels = np.array([2, 0, 2, 0, 5])
    assert [found.tolist() for found in class_members(labels)] == [[1, 3], [0, 2], [4]]
    assert [found.tolist() for found in class_members(labels, np.array([2, 3, 4]))] == [[3], [2], [4]]
    assert class_members(labels, np.array([], np.int64)) == []

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers import easy_records, make_records

from fedrobust.data.choice import check_class, class_distances, pick, thumbnails
from fedrobust.errors import UserError


@pytest.mark.parametrize(("share", "count"), [(1.0, 20), (0.5, 10), (0.26, 5), (1e-9, 1), (0.0, 0)])
def test_pick_share_is_rounded_and_above_0_at_least_one(share: float, count: int) -> None:
    among = np.arange(100, 120)
    chosen = pick(np.random.default_rng(0), share, among)
    assert len(chosen) == len(set(chosen.tolist())) == count
    assert set(chosen.tolist()) <= set(among.tolist()) and (np.diff(chosen) > 0).all()


def test_pick_of_nothing_is_empty() -> None:
    assert len(pick(np.random.default_rng(0), 0.5, np.arange(0))) == 0


def test_pick_follows_from_the_generator() -> None:
    picks = [tuple(pick(np.random.default_rng(seed), 0.3, np.arange(30)).tolist()) for seed in (1, 1, 2)]
    assert picks[0] == picks[1] != picks[2]


def test_check_class_beyond_the_classes_of_the_data_is_refused() -> None:
    check_class("some-attack", "target", 3, 4)
    with pytest.raises(UserError, match="some-attack: target is 4, but the data have classes 0 to 3"):
        check_class("some-attack", "target", 4, 4)


def test_thumbnails_are_block_means() -> None:
    records = make_records(3, channels=3, size=(32, 48))
    blocks = records.images.reshape(3, 3, 16, 2, 16, 3).mean(axis=(3, 5))
    np.testing.assert_allclose(thumbnails(records), blocks.reshape(3, -1), rtol=1e-6)


def test_thumbnails_of_uneven_sides_weigh_all_pixels() -> None:
    records = make_records(2, size=(7, 5))
    # Images that are small already stay as they are.
    np.testing.assert_allclose(thumbnails(records), records.images.reshape(2, -1), rtol=1e-6)
    uneven = thumbnails(make_records(2, size=(21, 19)), side=4)
    assert uneven.shape == (2, 16)
    flat = replace(make_records(2, size=(21, 19)), images=np.full((2, 1, 21, 19), 77, np.uint8))
    np.testing.assert_allclose(thumbnails(flat, side=4), 77.0)


def test_class_distances_follow_their_definition() -> None:
    records = make_records(12, classes=4, labels=[0, 0, 1, 1, 1, 3, 3, 0, 1, 3, 0, 1])
    distances = class_distances(records)
    flat = records.images.reshape(12, -1).astype(float)
    for k in (0, 1, 3):
        middle = flat[records.labels == k].mean(axis=0)
        np.testing.assert_allclose(distances[:, k], np.sqrt(((flat - middle) ** 2).sum(axis=1)), rtol=1e-6)
    assert np.isinf(distances[:, 2]).all()


def test_class_distances_of_easy_images_are_least_to_their_own_class() -> None:
    records = easy_records()
    np.testing.assert_array_equal(class_distances(records).argmin(axis=1), records.labels)

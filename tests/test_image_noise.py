from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import make_records

from clients.image_noise import ImageNoise
from fedrobust.data.records import Records
from fedrobust.errors import UserError

GREY = Records(np.full((40, 1, 20, 20), 128, np.uint8), np.zeros(40, np.int64), ("a", "b"))


def noisy(records: Records = GREY, seed: int = 0, **options: Any) -> Records:
    """Return the records that a hospital with this attack trains on."""
    attack = ImageNoise(**options)
    attack.bind(rng=np.random.default_rng(seed))
    return attack.poison_records(records)


def spoilt(made: Records, records: Records) -> np.ndarray:
    """Return which images changed."""
    changed: np.ndarray = (made.images != records.images).any(axis=(1, 2, 3))
    return changed


@pytest.mark.parametrize("std", [0.02, 0.1])
def test_image_noise_noise_has_the_std_asked_for(std: float) -> None:
    made = noisy(std=std, share=1.0)
    assert made.images.dtype == np.uint8
    difference = made.images.astype(float) - 128
    # Rounding to 256 levels adds the variance 1/12 of a level.
    assert difference.std() == pytest.approx(np.sqrt((255 * std) ** 2 + 1 / 12), rel=0.02)
    assert abs(difference.mean()) < 4 * 255 * std / np.sqrt(difference.size)


def test_image_noise_noise_is_clipped_and_never_wraps_around() -> None:
    edges = np.zeros((2, 1, 50, 50), np.uint8)
    edges[1] = 255
    made = noisy(Records(edges, np.zeros(2, np.int64), ("a",)), std=0.1, share=1.0).images
    assert (made[0] == 0).mean() > 0.4 and made[0].max() < 128
    assert (made[1] == 255).mean() > 0.4 and made[1].min() > 128


def test_image_noise_rounding_is_to_the_nearest_level() -> None:
    # Cutting the decimals off would darken the images by half a level.
    difference = noisy(std=0.004, share=1.0).images.astype(float) - 128
    assert abs(difference.mean()) < 0.1


@pytest.mark.parametrize(("share", "count"), [(1.0, 40), (0.5, 20), (0.1, 4), (1e-6, 1)])
def test_image_noise_share_is_of_the_hospitals_images(share: float, count: int) -> None:
    assert spoilt(noisy(std=0.5, share=share), GREY).sum() == count


def test_image_noise_every_image_has_noise_of_its_own() -> None:
    made = noisy(std=0.2, share=1.0).images.reshape(40, -1).astype(float)
    assert np.abs(np.corrcoef(made) - np.eye(40)).max() < 0.3


def test_image_noise_labels_stay_right_and_inputs_untouched() -> None:
    images = GREY.images.copy()
    made = noisy(std=0.5)
    np.testing.assert_array_equal(made.labels, GREY.labels)
    np.testing.assert_array_equal(GREY.images, images)


def test_image_noise_noise_follows_from_the_generator() -> None:
    one, same, other = (noisy(seed=seed, std=0.5, share=0.5) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.images, same.images)
    assert not np.array_equal(spoilt(one, GREY), spoilt(other, GREY))
    assert not spoilt(one, GREY)[:20].all()


def test_image_noise_rgb_channels_are_corrupted_apart() -> None:
    records = make_records(6, channels=3, size=(16, 16))
    made = noisy(records, std=0.05)
    assert made.images.shape == (6, 3, 16, 16)
    difference = made.images.astype(float) - records.images
    assert (difference.std(axis=(2, 3)) > 5).all()
    assert np.abs(difference[:, 0] - difference[:, 1]).max() > 5


def test_image_noise_plants_no_trigger() -> None:
    assert ImageNoise().trigger(GREY) is None


@pytest.mark.parametrize("amount", [0.02, 0.4, 1.0])
def test_image_noise_salt_and_pepper_hit_a_share_of_the_pixels(amount: float) -> None:
    records = Records(np.full((60, 3, 20, 20), 128, np.uint8), np.zeros(60, np.int64), ("a",))
    made = noisy(records, kind="salt-and-pepper", amount=amount).images
    assert set(np.unique(made)) <= {0, 128, 255}
    # A pixel is hit in all its channels.
    assert (made == made[:, :1]).all()
    pixels = made[:, 0].size
    for level in (0, 255):
        wanted = amount / 2
        assert (made[:, 0] == level).mean() == pytest.approx(wanted, abs=5 * np.sqrt(wanted / pixels))


@pytest.mark.parametrize("factor", [0.0, 0.3, 2.0])
def test_image_noise_contrast_draws_levels_to_the_channel_mean(factor: float) -> None:
    records = make_records(6, channels=3, size=(10, 10))
    made = noisy(records, kind="contrast", factor=factor).images
    images = records.images.astype(float)
    middle = images.mean(axis=(2, 3), keepdims=True)
    wanted = np.clip(np.rint(middle + factor * (images - middle)), 0, 255)
    np.testing.assert_array_equal(made, wanted)


@pytest.mark.parametrize("kind", ["salt-and-pepper", "contrast"])
def test_image_noise_every_kind_keeps_the_budget(kind: str) -> None:
    records = make_records(40)
    assert spoilt(noisy(records, kind=kind, share=0.25), records).sum() == 10


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"amount": 0.2}, "amount does not belong to the kind 'gaussian'; use std"),
        ({"kind": "contrast", "std": 0.2}, "std does not belong to the kind 'contrast'; use factor"),
    ],
)
def test_image_noise_option_of_another_kind_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        ImageNoise(**options)

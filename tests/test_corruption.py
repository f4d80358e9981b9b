from __future__ import annotations

import numpy as np
import pytest

from fedrobust.data.corruption import gaussian_noise, other_scanner
from fedrobust.errors import UserError

GREY = np.full((40, 1, 28, 28), 128, dtype=np.uint8)
ALL = np.arange(2 * 3 * 8 * 8, dtype=np.int64).reshape(2, 3, 8, 8).astype(np.uint8)


def test_another_scanner_with_nothing_to_change_gives_the_image() -> None:
    np.testing.assert_array_equal(other_scanner(ALL, 1.0), ALL)


def test_other_scanner_applies_its_curve() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    seen = other_scanner(levels, 2.0, gain=0.5, offset=0.25)
    np.testing.assert_array_equal(seen, np.rint(255 * (0.25 + 0.5 * (levels / 255.0) ** 2)))


def test_another_scanner_takes_many_images_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (7, 3, 8, 8)).astype(np.uint8)
    at_once = other_scanner(images, 1.6, 0.85, 0.05, 0.7)
    for pixels in (1, 3 * 8 * 8 * 2):
        monkeypatch.setattr("fedrobust.data.corruption._PIXELS", pixels)
        np.testing.assert_array_equal(other_scanner(images, 1.6, 0.85, 0.05, 0.7), at_once)
    assert other_scanner(images[:0], 1.6).shape == (0, 3, 8, 8)


def test_no_noise_is_the_image() -> None:
    clean = gaussian_noise(ALL, std=0.0, seed=3)
    assert clean.dtype == np.float32 and clean.shape == ALL.shape
    np.testing.assert_array_equal(clean, ALL.astype(np.float32) / np.float32(255))
    assert clean.min() == 0 and clean.max() == 1


@pytest.mark.parametrize(("std", "mean"), [(0.01, 0.0), (0.1, 0.0), (0.05, 0.2), (0.05, -0.1)])
def test_noise_has_the_mean_and_std_asked_for(std: float, mean: float) -> None:
    noise = gaussian_noise(GREY, std, seed=0, mean=mean).astype(np.float64) - 128 / 255
    assert abs(noise.std() / std - 1) < 0.02
    assert abs(noise.mean() - mean) < 4 * std / np.sqrt(GREY.size)


def test_noise_is_not_rounded_to_grey_levels() -> None:
    levels = gaussian_noise(GREY, std=0.01, seed=0) * 255
    assert np.abs(levels - np.round(levels)).mean() > 0.2
    assert len(np.unique(levels)) > GREY.size / 2


def test_noise_is_clipped_and_leaves_the_images_alone() -> None:
    images = ALL.copy()
    noisy = gaussian_noise(images, std=2.0, seed=0)
    assert noisy.min() == 0 and noisy.max() == 1
    np.testing.assert_array_equal(images, ALL)


def test_noise_of_an_image_does_not_depend_on_how_many_follow() -> None:
    for images in (GREY, ALL):
        np.testing.assert_array_equal(gaussian_noise(images, 0.1, 5)[:1], gaussian_noise(images[:1], 0.1, 5))


def test_noise_depends_on_the_seed_and_differs_from_image_to_image() -> None:
    noisy = gaussian_noise(GREY, 0.1, 5)
    np.testing.assert_array_equal(noisy, gaussian_noise(GREY, 0.1, 5))
    assert not np.array_equal(noisy, gaussian_noise(GREY, 0.1, 6))
    assert abs(np.corrcoef(noisy[0].ravel(), noisy[1].ravel())[0, 1]) < 0.15


@pytest.mark.parametrize(("std", "mean"), [(-0.1, 0.0), (np.nan, 0.0), (np.inf, 0.0), (0.1, np.nan)])
def test_impossible_noise_is_refused(std: float, mean: float) -> None:
    with pytest.raises(UserError, match="give a finite std of 0 or more"):
        gaussian_noise(ALL, std, seed=0, mean=mean)


def test_scaled_images_are_refused() -> None:
    with pytest.raises(TypeError, match="must be uint8, got float64"):
        gaussian_noise(ALL / 255, 0.1, seed=0)  # type: ignore[arg-type]

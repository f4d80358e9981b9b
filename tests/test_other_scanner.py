from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import make_records
from scipy.ndimage import gaussian_filter

from clients.other_scanner import OtherScanner
from fedrobust.data.records import Records
from fedrobust.errors import UserError

NOTHING = {"gamma": 1.0, "gain": 1.0, "offset": 0.0, "blur": 0.0}


def taken(records: Records, **options: Any) -> Records:
    return OtherScanner(**options).transform_records(records)


@pytest.mark.parametrize("channels", [1, 3])
def test_other_scanner_is_blur_then_curve_then_gain_and_offset(channels: int) -> None:
    records = make_records(7, channels=channels, size=(13, 9))
    options = {"gamma": 1.8, "gain": 0.7, "offset": 0.1, "blur": 1.2}
    x = records.images.astype(np.float64) / 255
    blurred = gaussian_filter(x, (0, 0, 1.2, 1.2), mode="reflect", truncate=4)
    expected = 255 * np.clip(0.1 + 0.7 * blurred**1.8, 0, 1)
    made = taken(records, **options)
    assert made.images.dtype == np.uint8 and made.images.shape == records.images.shape
    assert np.abs(made.images - expected).max() <= 0.5 + 1e-3


def test_other_scanner_each_option_does_what_it_says() -> None:
    records = make_records(4, size=(16, 16))
    mean = records.images.mean()
    assert taken(records, **{**NOTHING, "gamma": 2.0}).images.mean() < mean
    assert taken(records, **{**NOTHING, "gamma": 0.5}).images.mean() > mean
    brighter = taken(records, **{**NOTHING, "offset": 0.2}).images
    np.testing.assert_array_equal(brighter, np.minimum(255, records.images + 51.0))
    np.testing.assert_array_equal(
        taken(records, **{**NOTHING, "gain": 0.5}).images, np.rint(records.images / 2)
    )
    smooth = taken(records, **{**NOTHING, "blur": 2.0}).images.astype(float)
    rough = records.images.astype(float)
    assert np.abs(np.diff(smooth)).mean() < 0.3 * np.abs(np.diff(rough)).mean()
    np.testing.assert_allclose(smooth.mean((2, 3)), rough.mean((2, 3)), atol=12)


def test_other_scanner_labels_and_facts_are_right_and_inputs_stay() -> None:
    records = make_records(600)
    before = records.images.copy()
    made, again = taken(records), taken(records)
    np.testing.assert_array_equal(made.labels, records.labels)
    np.testing.assert_array_equal(made.facts["site"], records.facts["site"])
    np.testing.assert_array_equal(made.images, again.images)
    np.testing.assert_array_equal(records.images, before)
    assert (made.images != records.images).any((1, 2, 3)).all()
    # An image does not depend on how many there are.
    some = np.array([3, 599])
    np.testing.assert_array_equal(taken(records.take(some)).images, made.images[some])


def test_other_scanner_flat_image_stays_flat_at_its_edges() -> None:
    flat = Records(np.full((1, 1, 6, 6), 90, np.uint8), np.zeros(1, np.int64), ("a",))
    np.testing.assert_array_equal(taken(flat, **{**NOTHING, "blur": 5.0}).images, flat.images)


def test_other_scanner_options_that_change_no_image_are_refused() -> None:
    with pytest.raises(UserError, match="change no image"):
        OtherScanner(**NOTHING)


def test_other_scanner_is_benign() -> None:
    assert not OtherScanner.malicious

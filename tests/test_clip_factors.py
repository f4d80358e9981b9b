from __future__ import annotations

import numpy as np

from fedrobust.aggregation.clipping import clip_factors


def test_clip_factors_shorten_only_what_is_longer_than_the_bound() -> None:
    norms = np.array([0.0, 1.0, 2.0, 4.0, 2.0**40])
    assert clip_factors(norms, 2.0).tolist() == [1, 1, 1, 0.5, 2.0**-39]


def test_clip_factors_with_a_bound_of_0_leave_only_zero_vectors() -> None:
    assert clip_factors(np.array([0.0, 3.0]), 0.0).tolist() == [1, 0]


def test_clip_factors_on_random_norms_are_the_formula_bit_for_bit() -> None:
    norms = np.abs(np.random.default_rng(0).standard_normal(1000)) + 1e-3
    np.testing.assert_array_equal(clip_factors(norms, 0.7), np.minimum(1.0, 0.7 / norms))

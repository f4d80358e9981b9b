from __future__ import annotations

import numpy as np
import pytest
from helpers import make_updates
from references import differences

from fedrobust.errors import UserError
from fedrobust.federation import Updates
from strategies.rlr import RobustLearningRate


@pytest.mark.parametrize(
    ("n", "d", "threshold"), [(4, 300, 2), (10, 10_000, 4), (10, 50, None), (23, 777, 9), (40, 500, 0)]
)
def test_rlr_random_updates_follow_the_definition(n: int, d: int, threshold: int | None) -> None:
    updates = make_updates(n, d, seed=n)
    found, _ = RobustLearningRate(threshold=threshold).combine(updates)
    x = differences(updates)
    theta = n // 3 + 1 if threshold is None else threshold
    rate = np.where(np.abs(np.sign(x).sum(axis=0)) >= theta, 1.0, -1.0)
    np.testing.assert_allclose(found - updates.global_parameters, rate * x.mean(axis=0), atol=1e-6)


def test_rlr_threshold_0_is_the_mean() -> None:
    updates = make_updates(5, 80)
    np.testing.assert_allclose(
        RobustLearningRate(threshold=0).combine(updates)[0], updates.mean(np.ones(5)), atol=1e-6
    )


def test_rlr_zero_has_no_sign() -> None:
    base = make_updates(3, 1)
    base = Updates([u.with_delta([0.0]) for u in base])
    updates = Updates([u.with_delta([v]) for u, v in zip(base, [0.5, 0.5, 0.0], strict=True)])
    agreed = RobustLearningRate(threshold=2).combine(updates)[0] - base.global_parameters
    reversed_sign = RobustLearningRate(threshold=3).combine(updates)[0] - base.global_parameters
    np.testing.assert_allclose([agreed[0], reversed_sign[0]], [1 / 3, -1 / 3], atol=1e-6)


def test_rlr_threshold_above_the_hospitals_is_refused() -> None:
    with pytest.raises(UserError, match="rlr: threshold=11 is more than the 10 hospitals"):
        RobustLearningRate(threshold=11).check(10)
    RobustLearningRate(threshold=10).check(10)


def test_rlr_few_replies_all_have_to_agree() -> None:
    base = make_updates(3, 2)
    updates = Updates([u.with_delta([0.5, 0.5 if u.node else -0.1]) for u in base])
    found, verdict = RobustLearningRate(threshold=4).combine(updates)
    np.testing.assert_allclose(found - base.global_parameters, [0.5, -0.3], atol=1e-6)
    assert verdict.why == ["only 3 replied: threshold=3 instead of 4"] * 3

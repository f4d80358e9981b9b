from __future__ import annotations

import numpy as np
import pytest
from helpers import make_updates

from strategies.fedavg import FedAvg


def test_it_is_the_mean_weighted_by_claimed_images() -> None:
    counts = [10, 500, 33, 1]
    updates = make_updates(4, d=200, num_examples=counts)
    parameters, verdict = FedAvg().combine(updates)
    total = np.zeros(200)
    for update, count in zip(updates, counts, strict=True):
        total += count * update.parameters.astype(np.float64)
    np.testing.assert_allclose(parameters, total / sum(counts), rtol=1e-6)
    np.testing.assert_array_equal(verdict.weight, counts)


def test_it_accuses_nobody() -> None:
    verdict = FedAvg().combine(make_updates(3))[1]
    assert not np.any(verdict.flagged) and np.isnan(np.asarray(verdict.score)).all()


def test_equal_counts_are_the_plain_mean_and_only_their_ratio_matters() -> None:
    one, other = (FedAvg().combine(make_updates(3, num_examples=[k] * 3))[0] for k in (1, 1000))
    np.testing.assert_array_equal(one, other)
    stacked = np.stack([update.parameters for update in make_updates(3)]).astype(np.float64)
    np.testing.assert_array_equal(one, stacked.mean(0).astype(np.float32))


def test_translation_moves_the_result_alike() -> None:
    updates = make_updates(4, num_examples=[1, 2, 3, 4])
    shifted = type(updates)([update.with_delta(update.delta + 2) for update in updates])
    one, other = FedAvg().combine(updates)[0], FedAvg().combine(shifted)[0]
    np.testing.assert_allclose(other, one + 2, atol=1e-5)


def test_it_believes_the_number_of_images_and_says_so() -> None:
    assert FedAvg.trusts == {"num_examples"}
    updates = make_updates(3, num_examples=[10, 10, 10**9])
    np.testing.assert_allclose(FedAvg().combine(updates)[0], updates[2].parameters, atol=1e-5)


def test_a_claim_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="not negative"):
        FedAvg().combine(make_updates(2, num_examples=[10, -5]))


def test_it_keeps_nothing_between_rounds() -> None:
    assert FedAvg().state() == {}

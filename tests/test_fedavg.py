from __future__ import annotations

import numpy as np
import pytest
from helpers import make_updates

from strategies.fedavg import FedAvg


def test_fedavg_is_the_mean_weighted_by_reported_images() -> None:
    counts = [10, 500, 33, 1]
    updates = make_updates(4, d=200, num_examples=counts)
    parameters, verdict = FedAvg().combine(updates)
    total = np.zeros(200)
    for update, count in zip(updates, counts, strict=True):
        total += count * update.parameters.astype(np.float64)
    np.testing.assert_allclose(parameters, total / sum(counts), rtol=1e-6)
    np.testing.assert_array_equal(verdict.weight, counts)


def test_fedavg_flags_no_hospital() -> None:
    verdict = FedAvg().combine(make_updates(3))[1]
    assert not np.any(verdict.flagged) and np.isnan(np.asarray(verdict.score)).all()


def test_fedavg_equal_counts_are_the_plain_mean() -> None:
    one, other = (FedAvg().combine(make_updates(3, num_examples=[k] * 3))[0] for k in (1, 1000))
    np.testing.assert_array_equal(one, other)
    stacked = np.stack([update.parameters for update in make_updates(3)]).astype(np.float64)
    np.testing.assert_array_equal(one, stacked.mean(0).astype(np.float32))


def test_fedavg_of_translated_updates_is_translated() -> None:
    updates = make_updates(4, num_examples=[1, 2, 3, 4])
    shifted = type(updates)([update.with_delta(update.delta + 2) for update in updates])
    one, other = FedAvg().combine(updates)[0], FedAvg().combine(shifted)[0]
    np.testing.assert_allclose(other, one + 2, atol=1e-5)


def test_fedavg_trusts_the_number_of_images() -> None:
    assert FedAvg.trusts == {"num_examples"}
    updates = make_updates(3, num_examples=[10, 10, 10**9])
    np.testing.assert_allclose(FedAvg().combine(updates)[0], updates[2].parameters, atol=1e-5)


def test_fedavg_negative_number_of_images_is_refused() -> None:
    with pytest.raises(ValueError, match="not negative"):
        FedAvg().combine(make_updates(2, num_examples=[10, -5]))


def test_fedavg_has_no_state() -> None:
    assert FedAvg().state() == {}

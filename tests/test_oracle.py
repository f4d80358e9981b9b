"""The oracle: the average of the hospitals that are not among those it is given."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import make_updates

from fedrobust.errors import UserError
from fedrobust.plugins import instantiate
from strategies.fedavg import FedAvg
from strategies.oracle import Oracle


def test_oracle_is_fedavg_over_the_others() -> None:
    updates = make_updates(5, num_examples=[1, 2, 3, 4, 5])
    parameters, verdict = Oracle(malicious=[1, 3]).combine(updates)
    others = make_updates(5, num_examples=[1, 2, 3, 4, 5])
    kept = type(updates)([u for u in others if u.node not in (1, 3)])
    np.testing.assert_allclose(parameters, FedAvg().combine(kept)[0], rtol=1e-6)
    assert np.flatnonzero(verdict.flagged).tolist() == [1, 3]


def test_oracle_of_anything_but_numbers_is_refused() -> None:
    with pytest.raises(UserError, match="oracle: malicious is"):
        instantiate(Oracle, {"malicious": ["a"]}, "oracle")


def test_oracle_of_an_unknown_hospital_is_refused() -> None:
    with pytest.raises(UserError, match="oracle: there is no hospital 10; they are 0 to 9"):
        Oracle(malicious=[3, 10]).check(10)
    Oracle(malicious=[0, 9]).check(10)

from __future__ import annotations

import numpy as np
import pytest
from helpers import make_updates

from clients.ipm import Ipm


@pytest.mark.parametrize("knowledge", ["colluders", "all"])
def test_ipm_is_the_honest_mean_negated(knowledge: str) -> None:
    updates = make_updates(7, d=40_000, buffers=3)
    colluders, honest = updates[:2], updates[2:] if knowledge == "all" else ()
    mean = np.mean([u.delta for u in honest or colluders], axis=0, dtype=np.float64)
    sent = Ipm(epsilon=0.7, knowledge=knowledge).collude(colluders, honest)
    assert [u.node for u in sent] == [0, 1]
    for before, after in zip(colluders, sent, strict=True):
        np.testing.assert_allclose(after.delta, -0.7 * mean, atol=2e-6)
        assert after.report is before.report and after.buffers is before.buffers


def test_ipm_large_epsilon_reverses_the_plain_mean() -> None:
    updates = make_updates(6)
    honest_mean = np.mean([u.delta for u in updates[2:]], axis=0)
    for epsilon, reversed_ in ((1.9, False), (2.1, True)):  # (n - m) / m = 2
        sent = Ipm(epsilon).collude(updates[:2], updates[2:])
        overall = np.mean([u.delta for u in (*sent, *updates[2:])], axis=0)
        assert (overall @ honest_mean < 0) == reversed_

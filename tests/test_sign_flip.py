from __future__ import annotations

import numpy as np
import pytest
from helpers import make_updates

from clients.sign_flip import SignFlip

UPDATE = make_updates(1, d=50, buffers=3)[0]


@pytest.mark.parametrize("scale", [1.0, 4.0, 0.5])
def test_sign_flip_difference_is_negated(scale: float) -> None:
    sent = SignFlip(scale).poison_update(UPDATE)
    base = UPDATE.global_parameters.astype(float)
    wanted = base - scale * (UPDATE.parameters.astype(float) - base)
    np.testing.assert_allclose(sent.parameters, wanted, rtol=1e-5, atol=1e-6)
    assert sent.parameters.dtype == np.float32


def test_sign_flip_golden_values() -> None:
    update = make_updates(1, d=3)[0].with_delta([4, 5, 6])
    np.testing.assert_allclose(SignFlip().poison_update(update).delta, [-4, -5, -6], rtol=1e-6)


def test_sign_flip_everything_else_stays() -> None:
    before = UPDATE.parameters.copy()
    sent = SignFlip(3.0).poison_update(UPDATE)
    np.testing.assert_array_equal(UPDATE.parameters, before)
    np.testing.assert_array_equal(sent.buffers, UPDATE.buffers)
    assert (sent.node, sent.round, sent.report) == (UPDATE.node, UPDATE.round, UPDATE.report)

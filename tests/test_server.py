"""The server's handling of strategies' global generators and errors."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from federations import tiny

from fedrobust import UserError
from fedrobust.seeding import derive
from fedrobust.server import _strategy_at_work


def test_a_strategy_s_draws_repeat_and_leave_no_trace(tmp_path: Path) -> None:
    settings = tiny(tmp_path)
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    drawn = []
    for number in (1, 1, 2):
        with _strategy_at_work(settings, number):
            drawn.append((random.random(), np.random.random()))
    assert drawn[0] == drawn[1] != drawn[2]
    # Other words would give every recorded run of a strategy that draws other bits.
    plain = random.Random(derive(settings.seed, "sampling", 1))
    numpys = np.random.RandomState(derive(settings.seed, "numpy-sampling", 1) % 2**32)
    assert drawn[0] == (plain.random(), numpys.random_sample())
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # type: ignore[union-attr]


def test_what_a_strategy_raises_is_told_with_its_place(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"fails in round 3: ZeroDivisionError.*test_server.py, line \d+"),
        _strategy_at_work(tiny(tmp_path), 3),
    ):
        1 / 0  # noqa: B018

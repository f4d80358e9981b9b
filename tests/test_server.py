"""The server's learning-rate schedule and its handling of strategies' global generators."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from federations import tiny

from fedrobust import UserError
from fedrobust.server import _Plateau, _strategy_at_work


def test_the_learning_rate_falls_after_ten_rounds_without_a_better_loss_and_patience_ends_it() -> None:
    plateau = _Plateau(0.1, 14)
    assert not plateau.exhausted(1.0)
    for _ in range(10):
        assert plateau.lr == 0.1
        assert not plateau.exhausted(1.0)
    assert not plateau.exhausted(1.0)
    assert plateau.lr == pytest.approx(0.01)
    assert not plateau.exhausted(0.5)
    ends = [plateau.exhausted(0.5) for _ in range(14)]
    assert ends == [False] * 13 + [True]


def test_a_strategy_s_draws_repeat_and_leave_no_trace(tmp_path: Path) -> None:
    settings = tiny(tmp_path)
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    drawn = []
    for number in (1, 1, 2):
        with _strategy_at_work(settings, number):
            drawn.append((random.random(), np.random.random()))
    assert drawn[0] == drawn[1] != drawn[2]
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # type: ignore[union-attr]


def test_what_a_strategy_raises_is_told_with_its_place(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"fails in round 3: ZeroDivisionError.*test_server.py, line \d+"),
        _strategy_at_work(tiny(tmp_path), 3),
    ):
        1 / 0  # noqa: B018

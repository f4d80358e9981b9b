"""What is done to Flower's internals."""

from __future__ import annotations

import logging
import sys

import pytest

from fedrobust.errors import UserError
from fedrobust.flower.compat import is_simulation, is_superlink, log_mistakes_in_one_sentence


@pytest.fixture
def flower_log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    logger = logging.getLogger("flwr")
    before = list(logger.filters)
    log_mistakes_in_one_sentence()
    log_mistakes_in_one_sentence()
    assert len(logger.filters) == len(before) + 1
    yield caplog  # type: ignore[misc]
    logger.filters = before


def test_a_users_mistake_is_logged_as_one_sentence(flower_log: pytest.LogCaptureFixture) -> None:
    error = UserError("malicious = 7 is more than clients = 3")
    logging.getLogger("flwr").error("%s raised an exception", "ServerApp", exc_info=error)
    assert flower_log.messages == ["fedrobust: malicious = 7 is more than clients = 3"]
    assert "Traceback" not in flower_log.text


def test_other_errors_keep_their_traceback(flower_log: pytest.LogCaptureFixture) -> None:
    logging.getLogger("flwr").error("%s raised an exception", "ServerApp", exc_info=ValueError("no"))
    assert flower_log.messages == ["ServerApp raised an exception"] and "ValueError: no" in flower_log.text


def test_a_grid_of_flowers_own_is_recognised_and_no_import_is_needed_for_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from flwr.superlink.grid import HttpGrid, InMemoryGrid

    real, simulated = object.__new__(HttpGrid), object.__new__(InMemoryGrid)
    assert is_superlink(real) and not is_simulation(real)
    assert is_simulation(simulated) and not is_superlink(simulated)
    monkeypatch.delitem(sys.modules, "flwr.superlink.grid")
    assert not is_superlink(object()) and not is_simulation(object())  # type: ignore[arg-type]
    assert "flwr.superlink.grid" not in sys.modules

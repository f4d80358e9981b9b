"""A server optimiser over any defence: its formulas, its state, and where it is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from federations import tiny

from fedrobust import UserError, run
from fedrobust.pipeline.server_optimiser import ServerOptimiser, ServerStep
from fedrobust.results.state import state_from_json, state_to_json
from fedrobust.scenario import Scenario
from fedrobust.settings import Settings

AGGREGATES = np.random.default_rng(0).standard_normal((4, 30)).astype(np.float32)


def plain(how: ServerStep, aggregates: np.ndarray) -> np.ndarray:
    """Return the model after these rounds, from zero, by the papers' formulas in float64."""
    w = m = v = np.zeros(aggregates.shape[1])
    for aggregate in aggregates.astype(np.float64):
        d = aggregate - w
        if how.kind == "sgd":
            m = how.momentum * m + d
            w = w + how.lr * m
        else:
            m = how.momentum * m + (1 - how.momentum) * d
            v = 0.99 * v + 0.01 * d**2
            w = w + how.lr * m / (np.sqrt(v) + 1e-3)
    return w


@pytest.mark.parametrize(
    "how", [ServerStep("sgd", 0.5, 0.0), ServerStep("sgd", 1.0, 0.9), ServerStep("adam", 0.1, 0.9)]
)
def test_it_is_the_papers_formulas_also_after_its_state_was_written_and_read(how: ServerStep) -> None:
    optimiser, w = ServerOptimiser(how), np.zeros(AGGREGATES.shape[1], np.float32)
    for aggregate in AGGREGATES:
        w = optimiser.step(w, aggregate)
        assert w.dtype == np.float32
        text = state_to_json(optimiser.state(), "optimiser")
        optimiser = ServerOptimiser(how)
        optimiser.load_state(state_from_json(text))
    np.testing.assert_allclose(w, plain(how, AGGREGATES), rtol=1e-4, atol=1e-5)


def test_defaults_are_those_of_the_optimiser_and_sgd_alone_changes_nothing() -> None:
    def step(**given: object) -> ServerStep:
        return Scenario.of(Settings(**given)).server_step  # type: ignore[arg-type]

    assert step().optimiser() is None and step(server_lr=1, server_momentum=0).optimiser() is None
    assert step(server_momentum=0.5) == ServerStep("sgd", 1.0, 0.5)
    assert step(server_optimizer="adam") == ServerStep("adam", 0.01, 0.9)
    assert step(server_optimizer="adam", server_lr=1).optimiser() is not None


def test_half_a_server_learning_rate_is_half_the_way(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    quick = {"clients": 2, "rounds": 1, "data": "phantom(images=120, size=16)", "strategy": "median"}
    models = [
        load_file(run(tiny(tmp_path, **quick, **given)).folder / "model.safetensors")
        for given in ({"server_lr": 1e-9}, {"server_lr": 0.5}, {})
    ]
    for name, start in models[0].items():
        np.testing.assert_allclose(models[1][name], (start + models[2][name]) / 2, atol=1e-6)


def test_a_plain_flower_strategy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="moves the model by itself; leave --server-optimizer"):
        run(tiny(tmp_path, strategy="flwr.serverapp.strategy:FedAvg", server_lr=0.5))

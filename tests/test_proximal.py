"""FedProx's proximal term, from the strategy's option to the hospital's gradient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from federations import tiny
from safetensors.numpy import load_file

from fedrobust import run
from fedrobust.learners.proximal import proximal_hook


def test_the_hook_adds_mu_times_the_distance_from_the_received_model() -> None:
    draw = np.random.default_rng(0)
    received, moved, gradient = draw.standard_normal((3, 20)).astype(np.float32)
    got = proximal_hook(received, 0.25)(moved, gradient)
    exact = gradient.astype(np.float64) + 0.25 * (moved.astype(np.float64) - received)
    np.testing.assert_allclose(got, exact, rtol=1e-5, atol=1e-6)
    assert got.dtype == np.float32


@pytest.mark.parametrize("mu", [0.0, 1.0])
def test_fedprox_differs_from_fedavg_exactly_where_mu_is_positive(tmp_path: Path, mu: float) -> None:
    options = {"clients": 2, "rounds": 1, "data": "phantom(images=120, size=16)"}
    models = [
        (run(tiny(tmp_path, strategy=spec, **options)).folder / "model.safetensors").read_bytes()
        for spec in (
            "flwr.serverapp.strategy:FedAvg",
            f"flwr.serverapp.strategy:FedProx(proximal_mu={mu})",
        )
    ]
    assert (models[0] == models[1]) == (mu == 0)


def test_the_setting_asks_hospitals_as_fedprox_does_under_any_strategy(tmp_path: Path) -> None:
    options = {"clients": 2, "rounds": 1, "data": "phantom(images=120, size=16)"}
    models = [
        load_file(run(tiny(tmp_path, **options, **given)).folder / "model.safetensors")
        for given in (
            {"strategy": "flwr.serverapp.strategy:FedProx(proximal_mu=1.0)"},
            {"strategy": "flwr.serverapp.strategy:FedAvg", "proximal": 1.0},
            {"strategy": "fedavg", "proximal": 1.0},
        )
    ]
    for name, tensor in models[0].items():
        np.testing.assert_array_equal(tensor, models[1][name])
        np.testing.assert_allclose(tensor, models[2][name], atol=1e-6)

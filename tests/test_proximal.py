"""FedProx's proximal term, from the strategy's option to the hospital's gradient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from federations import tiny

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

"""The same inputs through ByzFL's and Flower's own rules, where they agree with the papers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.serverapp.strategy import FedMedian, FedTrimmedAvg, Krum, MultiKrum

from benchmarks.conformance import flower_result
from fedrobust.federation import ClientMetrics, Update, Updates
from fedrobust.flower.hosted_strategy import HostedStrategy, build_strategy
from fedrobust.learners.backbones import torchvision_models

Floats = np.ndarray[Any, Any]


def draw(seed: int, n: int = 10, d: int = 150) -> Floats:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, d)) * rng.uniform(0.5, 1.5, (n, 1))).astype(np.float32)


def ours(spec: str, x: Floats) -> Floats:
    strategy = build_strategy(spec, len(x))
    assert isinstance(strategy, HostedStrategy)
    start = np.zeros(x.shape[1], np.float32)
    updates = Updates([Update(node, row.copy(), ClientMetrics(10), start) for node, row in enumerate(x)])
    for step in strategy.steps:
        updates = step.transform(updates)
    return np.asarray(strategy.defence.combine(updates)[0])


@pytest.fixture(scope="module")
def byzfl() -> Any:
    # ByzFL imports torchvision, which a CPU-only torch may need help with.
    torchvision_models()
    return pytest.importorskip("byzfl")


@pytest.mark.parametrize("n", [4, 9, 10, 23])
@pytest.mark.parametrize(
    ("spec", "name", "options"),
    [
        ("median", "Median", {}),
        ("trimmed-mean(f=1)", "TrMean", {"f": 1}),
        ("centered-clipping(tau=9.0, iterations=3)", "CenteredClipping", {"L": 3, "tau": 9.0}),
        ("geometric-median", "GeometricMedian", {"nu": 1e-6, "T": 300}),
        ("multi-krum(f=0)", "MultiKrum", {"f": 0}),
    ],
)
def test_rules_agree_with_byzfl(byzfl: Any, spec: str, name: str, options: dict[str, Any], n: int) -> None:
    x = draw(n, n)
    # Its geometric median takes numbers below its smoothing for it: start and result are the same anyhow.
    np.testing.assert_allclose(ours(spec, x), getattr(byzfl, name)(**options)(x.copy()), atol=3e-6)


@pytest.mark.parametrize("n", [4, 9, 10, 23])
@pytest.mark.parametrize(
    ("spec", "name", "options"),
    [
        ("nnm(f=1)", "NNM", {"f": 1}),
        ("clipping(c=9.0)", "Clipping", {"c": 9.0}),
        ("arc(f=1)", "ARC", {"f": 1}),
    ],
)
def test_steps_agree_with_byzfl(byzfl: Any, spec: str, name: str, options: dict[str, Any], n: int) -> None:
    x = draw(n, n)
    wanted = byzfl.Median()(getattr(byzfl, name)(**options)(x.copy()))
    np.testing.assert_allclose(ours(f"{spec} | median", x), wanted, atol=3e-6)


def test_krum_of_byzfl_counts_one_neighbour_more(byzfl: Any) -> None:
    # Ours with f - 1 counts n - (f - 1) - 2 = n - f - 1, as ByzFL does with f.
    for seed in range(20):
        x = draw(seed)
        np.testing.assert_array_equal(ours("krum(f=1)", x), byzfl.Krum(f=2)(x))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("spec", "strategy", "options"),
    [
        ("median", FedMedian, {}),
        ("trimmed-mean(f=2)", FedTrimmedAvg, {"beta": 0.2}),
        ("krum(f=2)", Krum, {"num_malicious_nodes": 2}),
        ("multi-krum(f=2, m=5)", MultiKrum, {"num_malicious_nodes": 2, "num_nodes_to_select": 5}),
    ],
)
def test_rules_agree_with_flower(spec: str, strategy: Any, options: dict[str, Any], seed: int) -> None:
    x = draw(seed)
    found = flower_result(strategy(fraction_evaluate=0.0, **options), x)
    np.testing.assert_allclose(ours(spec, x), found, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("spec", "name"), [("mda(f=2)", "MDA"), ("monna(f=2)", "MoNNA"), ("meamed(f=2)", "Meamed")]
)
def test_subset_rules_agree_with_byzfl(byzfl: Any, spec: str, name: str, seed: int) -> None:
    x = draw(seed)
    np.testing.assert_allclose(ours(spec, x), getattr(byzfl, name)(2)(x), rtol=1e-4, atol=1e-5)

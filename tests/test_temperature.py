"""The scale of a model's confidence, fitted on validation images."""

from __future__ import annotations

import numpy as np
import pytest

from fedrobust.evaluation.classification import classification_metrics
from fedrobust.evaluation.temperature import LARGEST, fit_scale, scaled


def drawn(n: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities, and labels that are drawn from them."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.standard_normal((n, classes))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (probabilities.cumsum(1) > rng.random((n, 1))).argmax(1)
    return probabilities, labels


def cross_entropy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return float(-np.log(probabilities[np.arange(len(labels)), labels]).mean())


@pytest.mark.parametrize("scale", [0.25, 1.0, 4.0])
def test_a_known_scale_is_recovered(scale: float) -> None:
    exact, labels = drawn(20_000, 4, 1)
    assert fit_scale(scaled(exact, 1 / scale), labels) == pytest.approx(scale, rel=0.05)


@pytest.mark.parametrize("seed", range(20))
def test_the_fit_is_never_worse_on_its_images_and_is_their_best(seed: int) -> None:
    probabilities, labels = drawn(15, 3, seed)
    probabilities = scaled(probabilities, np.random.default_rng(seed).uniform(0.2, 5))
    found = fit_scale(probabilities, labels)
    best = cross_entropy(scaled(probabilities, found), labels)
    assert best <= cross_entropy(probabilities, labels) + 1e-12
    for other in np.geomspace(1 / LARGEST, LARGEST, 60):
        assert best <= cross_entropy(scaled(probabilities, other), labels) + 1e-6


def test_scaling_is_the_softmax_of_scaled_logits_and_keeps_the_classes_order() -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((50, 4))
    softmax = scaled(np.exp(logits), 1.0)
    powers = np.exp(2.5 * logits)
    np.testing.assert_allclose(scaled(softmax, 2.5), powers / powers.sum(1, keepdims=True), rtol=1e-12)
    np.testing.assert_array_equal(scaled(softmax, 0.1).argsort(1), softmax.argsort(1))
    np.testing.assert_allclose(scaled(softmax, 1.0), softmax, rtol=1e-12)


def test_an_overconfident_model_is_calibrated() -> None:
    exact, labels = drawn(4_000, 4, 2)
    sure = scaled(exact, 5.0)
    scale = fit_scale(sure[:2_000], labels[:2_000])
    before, after = (
        classification_metrics(values[2_000:], labels[2_000:]) for values in (sure, scaled(sure, scale))
    )
    assert before["ece"] is not None and before["ece"] > 0.2
    assert after["ece"] is not None and after["ece"] < 0.05
    assert before["accuracy"] == after["accuracy"] and before["sensitivity"] == after["sensitivity"]


def test_certain_impossible_and_undefined_probabilities() -> None:
    certain = np.array([[1.0, 0.0], [0.0, 1.0]])
    right, wrong = np.array([0, 1]), np.array([1, 0])
    # With every image right, or wrong, the best scale has no end: it stops at a limit.
    soft = np.array([[0.6, 0.4], [0.3, 0.7]])
    assert fit_scale(soft, right) == pytest.approx(LARGEST, rel=1e-3)
    assert fit_scale(soft, wrong) == pytest.approx(1 / LARGEST, rel=1e-3)
    assert fit_scale(certain, wrong) == pytest.approx(1 / LARGEST, rel=1e-3)
    assert np.isfinite(scaled(certain, LARGEST)).all()
    assert fit_scale(np.array([[np.nan, 1.0]]), np.array([1])) == 1.0

"""The drop, and the published table recomputed by the published formula."""

from __future__ import annotations

import pytest

from fedrobust.evaluation.drop import DROP_METRICS, combined_drop, performance_drop

#: Model: clean and noisy (accuracy, F1, precision) as published, and the combined drop that they give.
PUBLISHED = {
    "ResNet-50": ((0.384, 0.314, 0.288), (0.240, 0.171, 0.260), 30.92),
    "+ ETF": ((0.443, 0.365, 0.357), (0.314, 0.280, 0.390), 14.39),
    "+ ETF + Rect": ((0.463, 0.399, 0.420), (0.332, 0.293, 0.283), 29.16),
    "+ ETF + Rect + DML": ((0.467, 0.449, 0.469), (0.315, 0.376, 0.287), 29.20),
}


def table(values: tuple[float, ...]) -> dict[str, float]:
    """Return a published row as metrics."""
    return dict(zip(("accuracy", "macro_f1", "macro_precision"), values, strict=True))


def combined(clean: tuple[float, ...], noisy: tuple[float, ...]) -> float:
    """Return the combined drop of a published row."""
    drop = combined_drop(table(clean), table(noisy))["combined"]
    assert drop is not None
    return drop


@pytest.mark.parametrize(("clean", "noisy", "wanted"), PUBLISHED.values(), ids=PUBLISHED.keys())
def test_drop_equals_the_published_tables(
    clean: tuple[float, ...], noisy: tuple[float, ...], wanted: float
) -> None:
    assert round(combined(clean, noisy), 2) == wanted


def test_drop_of_the_last_row_is_29_2042() -> None:
    clean, noisy, _ = PUBLISHED["+ ETF + Rect + DML"]
    drop = combined(clean, noisy)
    assert drop == pytest.approx(29.204167, abs=1e-6)
    # Quoted as 29.20 and, from rounded parts, as 29.21.
    assert abs(drop - 29.20) < 0.01 and abs(drop - 29.21) < 0.01


def test_drop_of_etf_alone_is_the_smallest() -> None:
    drops = {model: combined(clean, noisy) for model, (clean, noisy, _) in PUBLISHED.items()}
    assert min(drops, key=lambda model: drops[model]) == "+ ETF"


def test_drop_in_the_published_combination_mixes_percent_with_fractions() -> None:
    clean, noisy, drop = PUBLISHED["ResNet-50"]
    accuracy = performance_drop(clean[0], noisy[0])
    assert accuracy == pytest.approx(37.5)
    mistaken = (accuracy + (clean[1] - noisy[1]) + (clean[2] - noisy[2])) / 3
    assert mistaken == pytest.approx((37.5 + 0.143 + 0.028) / 3)
    assert mistaken == pytest.approx(12.557, abs=5e-4)
    assert combined(clean, noisy) == pytest.approx(drop, abs=5e-3) and drop > 2 * mistaken


@pytest.mark.parametrize(
    ("clean", "noisy", "wanted"),
    [(0.5, 0.25, 50), (0.8, 0.8, 0), (0.4, 0.0, 100), (0.357, 0.390, -9.243697), (1e-12, 0.5, -5e13)],
)
def test_drop_of_one_metric(clean: float, noisy: float, wanted: float) -> None:
    assert performance_drop(clean, noisy) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("noisy", [0.0, 0.3])
def test_drop_from_zero_is_undefined(noisy: float) -> None:
    assert performance_drop(0.0, noisy) is None
    clean = {"accuracy": 0.5, "macro_f1": 0.4, "macro_precision": 0.0}
    drops = combined_drop(clean, {"accuracy": 0.25, "macro_f1": 0.4, "macro_precision": noisy})
    assert drops == {"accuracy": 50.0, "macro_f1": 0.0, "macro_precision": None, "combined": None}


def test_drop_counts_a_gain_on_noise_against_losses() -> None:
    clean = {"accuracy": 0.5, "macro_f1": 0.5, "macro_precision": 0.5}
    noisy = {"accuracy": 0.25, "macro_f1": 0.5, "macro_precision": 1.0}
    drops = combined_drop(clean, noisy)
    assert drops["macro_precision"] == pytest.approx(-100)
    assert drops["combined"] == pytest.approx((50 + 0 - 100) / 3)


def test_drop_weighs_three_metrics_equally_by_default() -> None:
    assert DROP_METRICS == ("accuracy", "macro_f1", "macro_precision")
    clean = {"accuracy": 0.5, "macro_f1": 0.4, "macro_precision": 0.2, "auroc": 0.0, "macro_recall": 0.9}
    noisy = {"accuracy": 0.25, "macro_f1": 0.1, "macro_precision": 0.1, "auroc": 0.0, "macro_recall": 0.0}
    drops = combined_drop(clean, noisy)
    assert set(drops) == {*DROP_METRICS, "combined"}
    assert drops["combined"] == pytest.approx((50 + 75 + 50) / 3)


def test_drop_weights_select_and_weigh_metrics() -> None:
    clean = {"accuracy": 0.5, "macro_f1": 0.4, "macro_recall": 0.8}
    noisy = {"accuracy": 0.25, "macro_f1": 0.1, "macro_recall": 0.8}
    drops = combined_drop(clean, noisy, {"accuracy": 3, "macro_recall": 1})
    assert drops == {"accuracy": pytest.approx(50), "macro_recall": 0.0, "combined": pytest.approx(37.5)}
    scaled = combined_drop(clean, noisy, {"accuracy": 0.3, "macro_recall": 0.1})
    assert scaled["combined"] == pytest.approx(37.5)


def test_drop_ignores_an_undefined_metric_of_zero_weight() -> None:
    clean, noisy = {"accuracy": 0.5, "macro_f1": 0.0}, {"accuracy": 0.4, "macro_f1": 0.0}
    drops = combined_drop(clean, noisy, {"accuracy": 1, "macro_f1": 0})
    assert drops["macro_f1"] is None and drops["combined"] == pytest.approx(20)


@pytest.mark.parametrize("weights", [{}, {"accuracy": 0.0}, {"accuracy": 2.0, "macro_f1": -1.0}])
def test_drop_refuses_weights_without_a_mean(weights: dict[str, float]) -> None:
    metrics = {"accuracy": 0.5, "macro_f1": 0.5}
    with pytest.raises(ValueError, match="weights of a combined drop"):
        combined_drop(metrics, metrics, weights)


def test_drop_of_a_missing_metric_raises() -> None:
    with pytest.raises(KeyError, match="macro_f1"):
        combined_drop({"accuracy": 0.5}, {"accuracy": 0.5})
